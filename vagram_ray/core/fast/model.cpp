// The dynamics model's fit (model_fitting.ModelFit) for the members of one seed, one after the other: an epoch of training
// and means over validation rows, for losses that are a weighted sum over the D + 1 outputs.
#include "networks.h"

using namespace vagram;

extern "C" {

// What the members of a seed are fitted to. Rows of the tables are padded with zeros to whole vectors, `strides` apart.
// Errors are those of the networks' outputs; their units are in the weights.
struct ModelData {
    const float* inputs;   // (N, D + A), normalised
    const float* targets;  // (N, D + 1), in units of the networks' outputs
    const float* weights;  // (N, D + 1), or (1, D + 1) for all rows
    const std::int32_t* sizes;  // widths from input to output
    std::int32_t layers, outputs;  // outputs: D + 1
    std::int32_t input_stride, target_stride, weight_stride;  // weight_stride 0: one row for all
    std::int32_t variance_head;  // log-variances follow the means, and two extras bound them
    std::int32_t gaussian;       // the loss is the negative log-likelihood, not the squared error
};

struct ModelMembers {
    float *parameters, *first_moment, *second_moment;  // (E, P)
    float* steps;  // taken by all members, one number
    std::int32_t members, frozen;  // frozen: parameters stay as they are
    float step_size, weight_decay;
};

}  // extern "C"

namespace {

constexpr int VALIDATION_CHUNK = 512;  // rows at a time; hidden values are to stay in the cache
constexpr int ROWS_AHEAD = 16;  // of the row at hand, as long as memory takes to answer
constexpr float LOG_TWO_PI = 1.83787706640934548f;
constexpr float BOUND_PENALTY = 0.01f;  // dynamics.variance_bound_penalty

// A value per output in whole vectors, lanes beyond the last output 0.
inline Vec first_lanes(Vec value, int count) {
    IVec lane;
    for (int i = 0; i < LANES; ++i) lane[i] = i;
    return select(lane < count, value, Vec{});
}

// Soft bounds of a log-variance (dynamics.DynamicsEnsemble._predict) and their derivatives.
struct Bounded {
    Vec value, by_raw, by_upper, by_lower;
    Bounded(Vec raw, Vec upper, Vec lower) {
        const Vec below = upper - softplus(upper - raw);
        value = lower + softplus(below - lower);
        const Vec free = sigmoid(upper - raw), kept = sigmoid(below - lower);
        by_raw = kept * free;
        by_upper = kept * (1.0f - free);
        by_lower = 1.0f - kept;
    }
};

class Member {
public:
    Member(const ModelData& data, float* parameters, Arena& arena)
        : data_(data), parameters_(parameters), arena_(arena),
          shape_{data.layers, data.sizes, false, Activation::silu}, bounds_(parameters + shape_.parameters()) {}

    std::size_t parameters() const { return shape_.parameters() + (data_.variance_head ? 2 * data_.outputs : 0); }

    // The loss of the rows at `index`, summed; with `gradient` also that of the objective, their mean and the penalty.
    double minibatch(const std::int64_t* index, int rows, float* gradient) {
        Scratch scratch(arena_);
        const Batch in = gather(index, rows);
        Trace trace;
        const Batch out = output_batch(rows);
        forward(arena_, shape_, parameters_, in, rows, out.data, out.stride, gradient != nullptr, trace);
        if (!gradient) return losses(index, rows, out, nullptr, nullptr);
        const Batch slope = output_batch(rows);
        std::memset(slope.data, 0, (std::size_t)rows * slope.stride * sizeof(float));
        const double loss = losses(index, rows, out, &slope, gradient + shape_.parameters());
        backward(arena_, shape_, parameters_, in, rows, trace, slope, gradient, nullptr, 0, 0);
        return loss;
    }

private:
    Batch output_batch(int rows) {  // whole vectors may be read and written at every output
        const int stride = padded(shape_.outputs());
        return {arena_.take((std::size_t)rows * stride + LANES), stride};
    }

    Batch gather(const std::int64_t* index, int rows) {
        const Batch in{arena_.take((std::size_t)rows * data_.input_stride), data_.input_stride};
        for (int row = 0; row < rows; ++row) {
            const float* from = data_.inputs + index[row] * data_.input_stride;
            announce(data_.inputs + ahead(index, row, rows) * data_.input_stride);
            for (int column = 0; column < in.stride; column += LANES) store(in.row(row) + column, load(from + column));
        }
        return in;
    }

    double losses(const std::int64_t* index, int rows, Batch out, const Batch* slope, float* bound_gradient) {
        if (slope && data_.variance_head) add_penalty(bound_gradient);
        double total = 0;
        for (int column = 0; column < data_.outputs; column += LANES)
            total += data_.gaussian ? likelihood(column, index, rows, out, slope, bound_gradient)
                                    : squared_error(column, index, rows, out, slope);
        return total;
    }

    // The row of a table that will soon be wanted; rows are drawn at random, which no cache foresees.
    static std::int64_t ahead(const std::int64_t* index, int row, int rows) {
        return index[row + ROWS_AHEAD < rows ? row + ROWS_AHEAD : rows - 1];
    }
    static void announce(const float* row) { __builtin_prefetch(row); }
    void announce_targets(int column, std::int64_t row) const {
        announce(target(row) + column);
        announce(weight(row) + column);
    }

    const float* target(std::int64_t row) const { return data_.targets + row * data_.target_stride; }
    const float* weight(std::int64_t row) const { return data_.weights + row * data_.weight_stride; }

    double squared_error(int column, const std::int64_t* index, int rows, Batch out, const Batch* slope) {
        const int count = data_.outputs - column;
        const float share = 1.0f / rows;
        Vec total{};
        for (int row = 0; row < rows; ++row) {
            announce_targets(column, ahead(index, row, rows));
            const Vec error = first_lanes(load(out.row(row) + column), count) - load(target(index[row]) + column);
            const Vec weighted = load(weight(index[row]) + column) * error;
            total += weighted * error;
            if (slope) store(slope->row(row) + column, 2.0f * share * weighted);
        }
        return sum_of(total);
    }

    double likelihood(int column, const std::int64_t* index, int rows, Batch out, const Batch* slope, float* bound_gradient) {
        const int outputs = data_.outputs, count = outputs - column, used = count < LANES ? count : LANES;
        const Vec upper = load_first(bounds_ + column, used), lower = load_first(bounds_ + outputs + column, used);
        const float share = 1.0f / rows;
        Vec by_upper{}, by_lower{}, total{};
        for (int row = 0; row < rows; ++row) {
            announce_targets(column, ahead(index, row, rows));
            const Vec mean = first_lanes(load(out.row(row) + column), count);
            const Vec raw = first_lanes(load(out.row(row) + outputs + column), count);
            const Vec error = mean - load(target(index[row]) + column), weights = load(weight(index[row]) + column);
            const Bounded log_variance(raw, upper, lower);
            const Vec precision = exponential(-log_variance.value), ratio = error * error * precision;
            total += weights * 0.5f * (ratio + log_variance.value + LOG_TWO_PI);
            if (!slope) continue;
            const Vec by_log_variance = share * weights * 0.5f * (1.0f - ratio);
            store_first(slope->row(row) + column, share * weights * error * precision, count);
            store_first(slope->row(row) + outputs + column, by_log_variance * log_variance.by_raw, count);
            by_upper += by_log_variance * log_variance.by_upper;
            by_lower += by_log_variance * log_variance.by_lower;
        }
        for (int lane = 0; slope && lane < used; ++lane) {
            bound_gradient[column + lane] += by_upper[lane];
            bound_gradient[outputs + column + lane] += by_lower[lane];
        }
        return sum_of(total);
    }

    void add_penalty(float* bound_gradient) const {
        for (int output = 0; output < data_.outputs; ++output) {
            const float slope = bounds_[output] - bounds_[data_.outputs + output] >= 0.0f ? BOUND_PENALTY : 0.0f;
            bound_gradient[output] = slope;
            bound_gradient[data_.outputs + output] = -slope;
        }
    }

    const ModelData& data_;
    float* parameters_;
    Arena& arena_;
    const Shape shape_;
    const float* bounds_;  // upper (D + 1), lower (D + 1)
};

Arena& own_arena() {
    static thread_local Arena arena;
    return arena;
}

}  // namespace

extern "C" {

std::int32_t model_lanes() { return LANES; }
std::int32_t model_data_size() { return sizeof(ModelData); }
std::int32_t model_members_size() { return sizeof(ModelMembers); }

// One epoch: each member takes a step for every `batch` of its `length` rows at `index` (E, length); the last batch may be
// smaller. `loss_sum` (E) takes the losses of all rows.
void model_train(const ModelData* data, const ModelMembers* all, const std::int64_t* index, std::int64_t length,
                        std::int64_t batch, float* loss_sum) {
    Arena& arena = own_arena();
    const Scratch scratch(arena);
    float steps = *all->steps;
    for (int number = 0; number < all->members; ++number) {
        const std::size_t size = Member(*data, nullptr, arena).parameters();
        float* parameters = all->parameters + number * size;
        Member member(*data, parameters, arena);
        const Scratch of_member(arena);
        float* gradient = all->frozen ? nullptr : arena.take(size);
        steps = *all->steps;
        const AdamState adam_state{all->first_moment + number * size, all->second_moment + number * size, &steps,
                                   all->step_size, all->weight_decay};
        double total = 0;
        for (std::int64_t row = 0; row < length; row += batch) {
            const std::int64_t rows = length - row < batch ? length - row : batch;
            total += member.minibatch(index + number * length + row, (int)rows, gradient);
            if (!gradient) continue;
            steps += 1.0f;
            adam(adam_state, size, parameters, gradient);
        }
        loss_sum[number] = (float)total;
    }
    *all->steps = steps;
}

// Each member's mean loss over the `count` rows at `index`, the same rows for all: `mean` (E).
void model_evaluate(const ModelData* data, const ModelMembers* all, const std::int64_t* index, std::int64_t count,
                           float* mean) {
    Arena& arena = own_arena();
    const std::size_t size = Member(*data, nullptr, arena).parameters();
    for (int number = 0; number < all->members; ++number) {
        Member member(*data, all->parameters + number * size, arena);
        double total = 0;
        for (std::int64_t row = 0; row < count; row += VALIDATION_CHUNK) {
            const std::int64_t rows = count - row < VALIDATION_CHUNK ? count - row : VALIDATION_CHUNK;
            total += member.minibatch(index + row, (int)rows, nullptr);
        }
        mean[number] = (float)(total / count);
    }
}

}  // extern "C"
