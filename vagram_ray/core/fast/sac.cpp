// SAC's updates (sac.SAC.update) for a cohort: critics, actor, temperature and targets, one seed after the other.
#include "networks.h"

using namespace vagram;

namespace {

constexpr float LOG_STD_MIN = -5.0f, LOG_STD_HALF_RANGE = 3.5f;  // actor_critic.LOG_STD_MIN and LOG_STD_HALF_RANGE
constexpr float LOG_DENSITY_CONSTANT = 0.91893853320467274f + 1.38629436111989062f;  // log(2 pi) / 2 + 2 log 2

}  // namespace

extern "C" {

// All arrays are contiguous float32; S seeds, U updates, B transitions of width 2 D + A + 2. P and Q are the parameters of
// an actor and of a critic.
struct SacUpdates {
    // what is updated, (S, ...)
    float *actor, *critics, *targets, *log_alpha;  // (S, P), (S, 2, Q), (S, 2, Q), (S)
    float *actor_first, *actor_second, *actor_steps;
    float *critic_first, *critic_second, *critic_steps;
    float *alpha_first, *alpha_second, *alpha_steps;
    // what it is updated with
    const float* batches;              // (S, U, B, width): obs | action | reward | next obs | terminated
    const float* noise;                // (S, U, B, 2 A): for the next action, for the action
    const float *obs_mean, *obs_std;   // (S, D), or null
    const std::uint8_t* frozen;        // (S): seeds that are left alone
    float* metrics;                    // (5, S): sums of critic loss, value, actor loss, entropy, alpha
    const std::int32_t *actor_sizes, *critic_sizes;  // widths from input to output
    std::int64_t first_update;         // number of the first of these updates
    std::int32_t seeds, updates, batch, obs_dim, action_dim;
    std::int32_t actor_layers, critic_layers, unit_features, critic_layer_norm;
    std::int32_t actor_period, target_period;
    float gamma, tau, target_entropy, actor_lr, critic_lr, alpha_lr;
};

}  // extern "C"

namespace {

// The policy's sample for a batch: planes (A, B) padded to whole vectors, and log densities (B).
struct Policy {
    float *action, *std, *bounded, *noise, *log_prob;
    int plane;  // floats per action dimension
};

class Seed {
public:
    Seed(const SacUpdates& all, int seed, Arena& arena)
        : all_(all), seed_(seed), arena_(arena), batch_size_(all.batch), obs_dim_(all.obs_dim), action_dim_(all.action_dim),
          actor_shape_{all.actor_layers, all.actor_sizes, all.unit_features != 0, Activation::relu},
          critic_shape_{all.critic_layers, all.critic_sizes, all.unit_features != 0, Activation::relu, all.critic_layer_norm != 0},
          actor_size_(actor_shape_.parameters()), critic_size_(critic_shape_.parameters()),
          actor_(all.actor + seed * actor_size_), critics_(all.critics + 2 * seed * critic_size_),
          targets_(all.targets + 2 * seed * critic_size_), log_alpha_(all.log_alpha[seed]) {}

    void run() {
        const std::size_t width = 2 * obs_dim_ + action_dim_ + 2;
        for (int update = 0; update < all_.updates; ++update) {
            Scratch scratch(arena_);
            const std::size_t position = (std::size_t)seed_ * all_.updates + update;
            rows_ = all_.batches + position * batch_size_ * width;
            noise_ = all_.noise + position * batch_size_ * 2 * action_dim_;
            const std::int64_t number = all_.first_update + update;
            one(number % all_.actor_period == 0, (number + 1) % all_.target_period == 0);
        }
    }

private:
    void one(bool actor_too, bool targets_too) {
        const Batch joint = scaled_obs(0), next = scaled_obs(obs_dim_ + action_dim_ + 1);
        update_critics(joint, next);
        if (actor_too) update_actor_and_temperature(joint);
        if (targets_too) follow(targets_, critics_, 2 * critic_size_);
    }

    const float* row(int index) const { return rows_ + (std::size_t)index * (2 * obs_dim_ + action_dim_ + 2); }

    // Observations of the batch, from this column of its rows on, in the networks' units; room for actions beside them.
    Batch scaled_obs(int column) {
        const Batch out = take_batch(arena_, batch_size_, obs_dim_ + action_dim_);
        const float* mean = all_.obs_mean ? all_.obs_mean + seed_ * obs_dim_ : nullptr;
        const float* deviation = all_.obs_mean ? all_.obs_std + seed_ * obs_dim_ : nullptr;
        for (int i = 0; i < batch_size_; ++i) {
            const float* from = row(i) + column;
            float* to = out.row(i);
            for (int d = 0; d < obs_dim_; ++d) to[d] = mean ? (from[d] - mean[d]) / deviation[d] : from[d];
            for (int d = obs_dim_; d < out.stride; ++d) to[d] = 0.0f;
        }
        return out;
    }

    void put_actions(const Policy& policy, Batch joint) {
        for (int a = 0; a < action_dim_; ++a)
            for (int i = 0; i < batch_size_; ++i) joint.row(i)[obs_dim_ + a] = policy.action[a * policy.plane + i];
    }

    // actor_critic.SquashedGaussianActor.sample: what columns [first_noise, first_noise + A) of the noise make of outputs (B, 2 A)
    Policy sample(const float* outputs, int first_noise) {
        Policy policy;
        policy.plane = padded(batch_size_);
        const std::size_t size = (std::size_t)action_dim_ * policy.plane;
        policy.action = arena_.take(size), policy.std = arena_.take(size);
        policy.bounded = arena_.zeros(size), policy.noise = arena_.zeros(size);
        policy.log_prob = arena_.zeros(policy.plane);
        float* mean = arena_.zeros(size);
        for (int i = 0; i < batch_size_; ++i)
            for (int a = 0; a < action_dim_; ++a) {
                mean[a * policy.plane + i] = outputs[i * 2 * action_dim_ + a];
                policy.bounded[a * policy.plane + i] = outputs[i * 2 * action_dim_ + action_dim_ + a];
                policy.noise[a * policy.plane + i] = noise_[i * 2 * action_dim_ + first_noise + a];
            }
        for (int a = 0; a < action_dim_; ++a)
            for (int i = 0; i < policy.plane; i += LANES) {
                const int at = a * policy.plane + i;
                const Vec noise = load(policy.noise + at), bounded = hyperbolic_tangent(load(policy.bounded + at));
                const Vec log_std = LOG_STD_MIN + LOG_STD_HALF_RANGE * (bounded + 1.0f), std = exponential(log_std);
                const Vec pre_squash = load(mean + at) + std * noise;
                const Vec squash = softplus(-2.0f * pre_squash) + pre_squash;
                const Vec log_density = 2.0f * squash - log_std - 0.5f * noise * noise - LOG_DENSITY_CONSTANT;
                store(policy.action + at, hyperbolic_tangent(pre_squash));
                store(policy.std + at, std);
                store(policy.bounded + at, bounded);
                store(policy.log_prob + i, load(policy.log_prob + i) + log_density);
            }
        return policy;
    }

    void values(const float* critic, Batch joint, bool differentiate, Trace& trace, float* out) {
        forward(arena_, critic_shape_, critic, joint, batch_size_, out, 1, differentiate, trace);
    }

    const float* bellman_target(Batch next) {
        float* target = arena_.take(batch_size_);
        Scratch scratch(arena_);
        Trace trace;
        float* outputs = arena_.take((std::size_t)batch_size_ * 2 * action_dim_);
        forward(arena_, actor_shape_, actor_, next, batch_size_, outputs, 2 * action_dim_, false, trace);
        const Policy policy = sample(outputs, 0);
        put_actions(policy, next);
        float *first = arena_.take(batch_size_), *second = arena_.take(batch_size_);
        values(targets_, next, false, trace, first);
        values(targets_ + critic_size_, next, false, trace, second);
        const float alpha = std::exp(log_alpha_);
        for (int i = 0; i < batch_size_; ++i) {
            const float reward = row(i)[obs_dim_ + action_dim_], terminated = row(i)[2 * obs_dim_ + action_dim_ + 1];
            const float least = least_of(first[i], second[i]);
            target[i] = reward + all_.gamma * (1.0f - terminated) * (least - alpha * policy.log_prob[i]);
        }
        return target;
    }

    static float least_of(float a, float b) { return a < b || a != a ? a : b; }  // NaN if one is

    void update_critics(Batch joint, Batch next) {
        const float* target = bellman_target(next);
        for (int i = 0; i < batch_size_; ++i)
            std::memcpy(joint.row(i) + obs_dim_, row(i) + obs_dim_, action_dim_ * sizeof(float));
        Scratch scratch(arena_);
        float* gradient = arena_.take(2 * critic_size_);
        float loss = 0, sum = 0;
        for (int k = 0; k < 2; ++k) {
            Scratch of_critic(arena_);
            Trace trace;
            float* value = arena_.take(batch_size_);
            const float* critic = critics_ + k * critic_size_;
            values(critic, joint, true, trace, value);
            const Batch slope = take_batch(arena_, batch_size_, 1);
            std::memset(slope.data, 0, (std::size_t)batch_size_ * slope.stride * sizeof(float));
            float square = 0;
            for (int i = 0; i < batch_size_; ++i) {
                const float error = value[i] - target[i];
                square += error * error, sum += value[i];
                slope.row(i)[0] = error * (2.0f / batch_size_);
            }
            loss += square / batch_size_;
            backward(arena_, critic_shape_, critic, joint, batch_size_, trace, slope, gradient + k * critic_size_, nullptr, 0, 0);
        }
        const std::size_t offset = 2 * seed_ * critic_size_;
        all_.critic_steps[seed_] += 1.0f;
        adam({all_.critic_first + offset, all_.critic_second + offset, all_.critic_steps + seed_, all_.critic_lr, 0.0f},
             2 * critic_size_, critics_, gradient);
        metric(0) += loss;
        metric(1) += sum / (2 * batch_size_);
    }

    // min_k Q_k(s, a), summed over the batch, and its gradient with respect to the actions, planes (A, B)
    float least_value_and_gradient(Batch joint, float* gradient, int plane) {
        Scratch scratch(arena_);
        Trace traces[2];
        float* value[2];
        Batch chosen[2], slope[2];
        for (int k = 0; k < 2; ++k) {
            value[k] = arena_.take(batch_size_);
            values(critics_ + k * critic_size_, joint, true, traces[k], value[k]);
            chosen[k] = take_batch(arena_, batch_size_, 1);
            std::memset(chosen[k].data, 0, (std::size_t)batch_size_ * chosen[k].stride * sizeof(float));
        }
        float sum = 0;
        for (int i = 0; i < batch_size_; ++i) {
            const bool first = value[0][i] <= value[1][i];
            chosen[first ? 0 : 1].row(i)[0] = 1.0f;
            sum += least_of(value[0][i], value[1][i]);
        }
        for (int k = 0; k < 2; ++k) {
            slope[k] = take_batch(arena_, batch_size_, action_dim_);
            backward(arena_, critic_shape_, critics_ + k * critic_size_, joint, batch_size_, traces[k], chosen[k], nullptr, &slope[k],
                     obs_dim_, action_dim_);
        }
        for (int i = 0; i < batch_size_; ++i)
            for (int a = 0; a < action_dim_; ++a) gradient[a * plane + i] = slope[0].row(i)[a] + slope[1].row(i)[a];
        return sum;
    }

    void update_actor_and_temperature(Batch joint) {
        Scratch scratch(arena_);
        Trace trace;
        float* outputs = arena_.take((std::size_t)batch_size_ * 2 * action_dim_);
        forward(arena_, actor_shape_, actor_, joint, batch_size_, outputs, 2 * action_dim_, true, trace);
        const Policy policy = sample(outputs, action_dim_);
        put_actions(policy, joint);
        float* of_value = arena_.zeros((std::size_t)action_dim_ * policy.plane);
        const float value = least_value_and_gradient(joint, of_value, policy.plane) / batch_size_;
        const float alpha = std::exp(log_alpha_), share = alpha / batch_size_;
        const Batch slope = output_gradient(policy, of_value, share);
        float* gradient = arena_.take(actor_size_);
        backward(arena_, actor_shape_, actor_, joint, batch_size_, trace, slope, gradient, nullptr, 0, 0);
        const std::size_t offset = seed_ * actor_size_;
        all_.actor_steps[seed_] += 1.0f;
        adam({all_.actor_first + offset, all_.actor_second + offset, all_.actor_steps + seed_, all_.actor_lr, 0.0f}, actor_size_, actor_,
             gradient);
        float log_prob = 0;
        for (int i = 0; i < batch_size_; ++i) log_prob += policy.log_prob[i];
        const float entropy = -log_prob / batch_size_;
        metric(2) += -alpha * entropy - value;
        metric(3) += entropy;
        update_temperature(alpha * (entropy - all_.target_entropy));
        metric(4) += std::exp(log_alpha_);
    }

    // With u = mean + std n and a = tanh(u): d log pi / du = 2 a and d log pi / d log std = 2 a std n - 1.
    Batch output_gradient(const Policy& policy, const float* of_value, float share) {
        const Batch slope = take_batch(arena_, batch_size_, 2 * action_dim_);
        std::memset(slope.data, 0, (std::size_t)batch_size_ * slope.stride * sizeof(float));
        for (int a = 0; a < action_dim_; ++a)
            for (int i = 0; i < batch_size_; ++i) {
                const int at = a * policy.plane + i;
                const float action = policy.action[at], bounded = policy.bounded[at];
                const float by_pre_squash = 2.0f * action * share - of_value[at] * (1.0f - action * action) / batch_size_;
                const float by_log_std = by_pre_squash * policy.std[at] * policy.noise[at] - share;
                slope.row(i)[a] = by_pre_squash;
                slope.row(i)[action_dim_ + a] = by_log_std * (1.0f - bounded * bounded) * LOG_STD_HALF_RANGE;
            }
        return slope;
    }

    void update_temperature(float gradient) {
        all_.alpha_steps[seed_] += 1.0f;
        adam({all_.alpha_first + seed_, all_.alpha_second + seed_, all_.alpha_steps + seed_, all_.alpha_lr, 0.0f}, 1, &log_alpha_,
             &gradient);
    }

    void follow(float* targets, const float* critics, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) targets[i] += all_.tau * (critics[i] - targets[i]);
    }

    float& metric(int number) { return all_.metrics[number * all_.seeds + seed_]; }

    const SacUpdates& all_;
    const int seed_;
    Arena& arena_;
    const int batch_size_, obs_dim_, action_dim_;
    const Shape actor_shape_, critic_shape_;
    const std::size_t actor_size_, critic_size_;
    float *actor_, *critics_, *targets_, &log_alpha_;
    const float *rows_ = nullptr, *noise_ = nullptr;
};

}  // namespace

// Do all updates of all seeds that are not frozen; the metrics of those that are become NaN.
extern "C" void sac_updates(const SacUpdates* updates) {
    thread_local Arena arena;
    for (int seed = 0; seed < updates->seeds; ++seed) {
        for (int metric = 0; metric < 5; ++metric) updates->metrics[metric * updates->seeds + seed] = updates->frozen[seed] ? NAN : 0.0f;
        if (!updates->frozen[seed]) Seed(*updates, seed, arena).run();
    }
}

extern "C" std::int64_t sac_updates_size() { return sizeof(SacUpdates); }  // the wrapper checks its own layout against it
