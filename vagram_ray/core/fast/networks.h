// A multilayer perceptron of `networks.StackedMLP`: its values, its gradients, and its Adam step.
//
// Parameters of a network lie in one row: weight (in, out) and bias (out) of each layer, then, where hidden layers are
// normalised, gain and shift (out) of each of these, then the extras. Batches are matrices with one row per example; rows
// of hidden values are padded with zeros to whole vectors.
#pragma once

#include "kernels.h"

namespace vagram {

enum class Activation { relu, silu };
constexpr int MAX_LAYERS = 32;
constexpr float SMALLEST_SQUARE_NORM = 1e-24f;  // networks.FEATURE_NORM_EPSILON squared
constexpr float LAYER_NORM_EPSILON = 1e-5f;     // networks.LAYER_NORM_EPSILON

struct Shape {
    int layers;        // products, the last one included
    const int* sizes;  // widths from input to output, layers + 1 of them
    bool unit_features;  // the last hidden values are scaled to unit length
    Activation activation;
    bool layer_norm = false;  // of the hidden layers, before their activation

    int inputs() const { return sizes[0]; }
    int outputs() const { return sizes[layers]; }
    std::size_t layer_parameters(int layer) const { return (std::size_t)(sizes[layer] + 1) * sizes[layer + 1]; }
    std::size_t gain(int hidden) const {  // where the gain of a hidden layer lies; its shift comes after it
        std::size_t offset = 0;
        for (int layer = 0; layer < layers; ++layer) offset += layer_parameters(layer);
        for (int layer = 0; layer < hidden; ++layer) offset += 2 * sizes[layer + 1];
        return offset;
    }
    std::size_t products() const { return gain(0); }  // parameters of weights and biases
    std::size_t parameters() const { return layer_norm ? gain(layers - 1) : products(); }  // without the extras
};

struct Batch {  // (rows, columns), rows `stride` apart
    float* data;
    int stride;
    float* row(Index index) const { return data + index * stride; }
};

// What a pass leaves behind for its differentiation.
struct Trace {
    Batch hidden[MAX_LAYERS];      // after activation
    Batch derivative[MAX_LAYERS];  // of SiLU; ReLU's is whether `hidden` is positive
    Batch normal[MAX_LAYERS];      // normalised pre-activations, if layers are normalised
    float* inverse_deviation[MAX_LAYERS];  // of the pre-activations, by row
    float* inverse_norm;           // of the last hidden values, if they are scaled
    float* unscaled;               // their product with the last weights, before scaling (rows, outputs)
};

inline Batch take_batch(Arena& arena, int rows, int columns) {
    const int stride = padded(columns);
    return {arena.take((std::size_t)rows * stride), stride};
}

inline float dot(const float* a, const float* b, int count) {  // count in whole vectors
    Vec total{};
    for (int i = 0; i < count; i += LANES) total += load(a + i) * load(b + i);
    return sum_of(total);
}

inline Vec activate(Activation activation, Vec value, Vec& derivative) {
    if (activation == Activation::relu) return derivative = Vec{}, rectify(value);
    const Vec share = sigmoid(value);
    derivative = share * (1.0f + value * (1.0f - share));
    return value * share;
}

inline const float* padded_copy(Arena& arena, const float* from, int count) {
    float* copy = arena.zeros(padded(count));
    std::memcpy(copy, from, count * sizeof(float));
    return copy;
}

inline float sum(const float* values, int count) {  // count in whole vectors
    Vec total{};
    for (int i = 0; i < count; i += LANES) total += load(values + i);
    return sum_of(total);
}

// Normalise pre-activations over their units, in place, then scale and shift them into `out`.
inline void normalize_layer(Arena& arena, const Shape& shape, int layer, const float* parameters, Batch values, int rows, Batch out,
                            float* inverse_deviation) {
    const int width = shape.sizes[layer + 1];
    Scratch scratch(arena);
    const float* gain = padded_copy(arena, parameters + shape.gain(layer), width);
    const float* shift = padded_copy(arena, parameters + shape.gain(layer) + width, width);
    for (int row = 0; row < rows; ++row) {
        float* own = values.row(row);
        const float mean = sum(own, values.stride) / width;
        for (int column = 0; column < width; column += LANES) store(own + column, load(own + column) - mean);
        for (int column = width; column < values.stride; ++column) own[column] = 0.0f;
        const float inverse = 1.0f / std::sqrt(dot(own, own, values.stride) / width + LAYER_NORM_EPSILON);
        inverse_deviation[row] = inverse;
        for (int column = 0; column < width; column += LANES) {
            const Vec normal = load(own + column) * inverse;
            store(own + column, normal);
            store(out.row(row) + column, normal * load(gain + column) + load(shift + column));
        }
    }
}

inline void hidden_layer(Arena& arena, const Shape& shape, int layer, const float* parameters, const float* weight, Batch in,
                         int rows, bool differentiate, Trace& trace) {
    const int depth = shape.sizes[layer], width = shape.sizes[layer + 1];
    const Batch out = trace.hidden[layer], slope = trace.derivative[layer];
    const bool is_relu = shape.activation == Activation::relu;
    Scratch scratch(arena);
    float* packed = arena.take(packed_size(depth, width));
    pack(weight, width, depth, width, packed);
    const float* bias = padded_copy(arena, weight + (std::size_t)depth * width, width);
    const Left left{in.data, in.stride, 1};
    if (is_relu && !shape.layer_norm) {
        product(rows, depth, width, left, packed,
                [&](int row, int column, Vec sum) { store(out.row(row) + column, rectify(sum + load(bias + column))); });
        return;
    }
    const Batch sums = shape.layer_norm ? trace.normal[layer] : out;
    product(rows, depth, width, left, packed,
            [&](int row, int column, Vec sum) { store(sums.row(row) + column, sum + load(bias + column)); });
    if (shape.layer_norm) normalize_layer(arena, shape, layer, parameters, sums, rows, out, trace.inverse_deviation[layer]);
    for (int row = 0; row < rows; ++row)  // apart from the product, whose sums need all registers
        for (int column = 0; column < out.stride; column += LANES) {
            Vec derivative;
            const Vec value = activate(shape.activation, load(out.row(row) + column), derivative);
            store(out.row(row) + column, value);
            if (differentiate && !is_relu) store(slope.row(row) + column, derivative);
        }
}

// Outputs of the last layer before its bias, `unscaled` (rows, outputs) with rows `stride` apart.
inline void last_product(Arena& arena, const Shape& shape, const float* weight, Batch in, int rows, float* out, int stride) {
    const int depth = shape.sizes[shape.layers - 1], width = shape.outputs();
    Scratch scratch(arena);
    if (width == 1 && shape.layers > 1) {
        const float* column = padded_copy(arena, weight, depth);
        for (int row = 0; row < rows; ++row) out[(Index)row * stride] = dot(in.row(row), column, padded(depth));
        return;
    }
    float* packed = arena.take(packed_size(depth, width));
    pack(weight, width, depth, width, packed);
    product(rows, depth, width, Left{in.data, in.stride, 1}, packed, [&](int row, int column, Vec sum) {
        store_first(out + (Index)row * stride + column, sum, width - column);
    });
}

// Values of a network at `in` (rows, inputs), written to `out` (rows, outputs) with rows `stride` apart.
// `trace` is filled for `backward`; its memory is the arena's.
inline void forward(Arena& arena, const Shape& shape, const float* parameters, Batch in, int rows, float* out, int stride,
                    bool differentiate, Trace& trace) {
    const float* weight = parameters;
    for (int layer = 0; layer < shape.layers - 1; ++layer) {
        trace.hidden[layer] = take_batch(arena, rows, shape.sizes[layer + 1]);
        if (differentiate && shape.activation == Activation::silu)
            trace.derivative[layer] = take_batch(arena, rows, shape.sizes[layer + 1]);
        if (!shape.layer_norm) continue;
        trace.normal[layer] = differentiate ? take_batch(arena, rows, shape.sizes[layer + 1]) : trace.hidden[layer];
        trace.inverse_deviation[layer] = arena.take(rows);
    }
    for (int layer = 0; layer < shape.layers - 1; ++layer) {
        hidden_layer(arena, shape, layer, parameters, weight, in, rows, differentiate, trace);
        weight += shape.layer_parameters(layer);
        in = trace.hidden[layer];
    }
    const int width = shape.outputs(), features = shape.sizes[shape.layers - 1];
    const float* bias = weight + (std::size_t)features * width;
    if (!shape.unit_features) {
        last_product(arena, shape, weight, in, rows, out, stride);
        for (int row = 0; row < rows; ++row)
            for (int column = 0; column < width; ++column) out[(Index)row * stride + column] += bias[column];
        return;
    }
    trace.inverse_norm = arena.take(rows);
    trace.unscaled = arena.take((std::size_t)rows * width);
    last_product(arena, shape, weight, in, rows, trace.unscaled, width);
    for (int row = 0; row < rows; ++row) {
        const float square = dot(in.row(row), in.row(row), in.stride);
        trace.inverse_norm[row] = 1.0f / std::sqrt(square > SMALLEST_SQUARE_NORM ? square : SMALLEST_SQUARE_NORM);
        for (int column = 0; column < width; ++column)
            out[(Index)row * stride + column] = trace.unscaled[(std::size_t)row * width + column] * trace.inverse_norm[row] + bias[column];
    }
}

inline void sum_rows(Batch values, int rows, int columns, float* total) {
    for (int column = 0; column < columns; column += LANES) {
        Vec sum{};
        for (int row = 0; row < rows; ++row) sum += load(values.row(row) + column);
        store_first(total + column, sum, columns - column);
    }
}

inline void weight_gradient(Arena& arena, Batch in, int depth, Batch gradient, int rows, int width, float* out) {
    Scratch scratch(arena);
    float* packed = arena.take(packed_size(rows, width));
    pack(gradient.data, gradient.stride, rows, width, packed);
    product(depth, rows, width, Left{in.data, 1, in.stride}, packed, [&](int row, int column, Vec sum) {
        store_first(out + (Index)row * width + column, sum, width - column);
    });
}

// Gradient with respect to columns [first, first + count) of a layer's inputs, from that of its outputs.
template <class Store>
inline void input_gradient(Arena& arena, const float* weight, int width, int first, int count, Batch gradient, int rows,
                           Store&& finish) {
    Scratch scratch(arena);
    float* packed = arena.take(packed_size(width, count));
    pack_transposed(weight + (std::size_t)first * width, width, width, count, packed);
    product(rows, width, count, Left{gradient.data, gradient.stride, 1}, packed, finish);
}

inline Vec through(const Shape& shape, const Trace& trace, int layer, int row, int column, Vec gradient) {
    if (shape.activation == Activation::silu) return gradient * load(trace.derivative[layer].row(row) + column);
    return (Vec)((IVec)gradient & ~(load(trace.hidden[layer].row(row) + column) <= 0.0f));
}

// Scale the gradient of the outputs by the features' inverse norm; what the norm itself adds is in `along`, per row.
inline Batch unscale(Arena& arena, const Shape& shape, const Trace& trace, Batch gradient, int rows, float* along) {
    const int width = shape.outputs();
    const Batch scaled = take_batch(arena, rows, width);
    std::memset(scaled.data, 0, (std::size_t)rows * scaled.stride * sizeof(float));
    for (int row = 0; row < rows; ++row) {
        const float inverse = trace.inverse_norm[row];
        float total = 0;
        for (int column = 0; column < width; ++column) {
            const float value = gradient.row(row)[column] * inverse;
            scaled.row(row)[column] = value;
            total += value * trace.unscaled[(std::size_t)row * width + column];
        }
        along[row] = total * inverse * inverse;
    }
    return scaled;
}

// Of the gradient of normalised, scaled and shifted values make that of the pre-activations, in place. The gradients of
// gain and shift are written to `parameter_gradient`, which may be null.
inline void normalize_layer_backward(Arena& arena, const Shape& shape, int layer, const float* parameters, const Trace& trace,
                                     Batch gradient, int rows, float* parameter_gradient) {
    const int width = shape.sizes[layer + 1];
    const Batch normal = trace.normal[layer];
    Scratch scratch(arena);
    if (parameter_gradient) {
        float* of_gain = parameter_gradient + shape.gain(layer);
        for (int column = 0; column < width; column += LANES) {
            Vec along{};
            for (int row = 0; row < rows; ++row) along += load(gradient.row(row) + column) * load(normal.row(row) + column);
            store_first(of_gain + column, along, width - column);
        }
        sum_rows(gradient, rows, width, of_gain + width);  // of the shift
    }
    const float* gain = padded_copy(arena, parameters + shape.gain(layer), width);
    for (int row = 0; row < rows; ++row) {
        float *own = gradient.row(row), *its_normal = normal.row(row);
        for (int column = 0; column < width; column += LANES) store(own + column, load(own + column) * load(gain + column));
        const float mean = sum(own, gradient.stride) / width, along = dot(own, its_normal, gradient.stride) / width;
        for (int column = 0; column < width; column += LANES)
            store(own + column, (load(own + column) - mean - load(its_normal + column) * along) * trace.inverse_deviation[layer][row]);
        for (int column = width; column < gradient.stride; ++column) own[column] = 0.0f;
    }
}

// Differentiate a pass.
//
// `gradient` (rows, outputs) is that of the loss with respect to the outputs, its rows padded with zeros.
// `parameter_gradient` takes the gradient of all parameters but the extras, and may be null. `input` takes that of input
// columns [first, first + count), and may be null.
inline void backward(Arena& arena, const Shape& shape, const float* parameters, Batch in, int rows, const Trace& trace,
                     Batch gradient, float* parameter_gradient, Batch* input, int first, int count) {
    std::size_t offset = shape.products();
    float* along = nullptr;
    for (int layer = shape.layers - 1; layer >= 0; --layer) {
        const int depth = shape.sizes[layer], width = shape.sizes[layer + 1];
        offset -= shape.layer_parameters(layer);
        const Batch below = layer ? trace.hidden[layer - 1] : in;
        if (parameter_gradient) sum_rows(gradient, rows, width, parameter_gradient + offset + (std::size_t)depth * width);
        if (shape.unit_features && layer == shape.layers - 1) {
            along = arena.take(rows);
            gradient = unscale(arena, shape, trace, gradient, rows, along);
        }
        if (parameter_gradient) weight_gradient(arena, below, depth, gradient, rows, width, parameter_gradient + offset);
        const float* weight = parameters + offset;
        if (layer == 0) {
            if (input)
                input_gradient(arena, weight, width, first, count, gradient, rows,
                               [&](int row, int column, Vec sum) { store(input->row(row) + column, sum); });
            return;
        }
        // SiLU's derivatives are used once: the gradient takes their place.
        const bool in_place = shape.activation == Activation::silu;
        const Batch next = in_place ? trace.derivative[layer - 1] : take_batch(arena, rows, depth);
        const bool last = along && layer == shape.layers - 1;
        const auto finish = [&](int row, int column, Vec sum) {
            if (last) sum -= load(below.row(row) + column) * along[row];
            store(next.row(row) + column, through(shape, trace, layer - 1, row, column, sum));
        };
        if (width == 1) {
            Scratch scratch(arena);
            const float* only = padded_copy(arena, weight, depth);
            for (int row = 0; row < rows; ++row)
                for (int column = 0; column < depth; column += LANES)
                    finish(row, column, gradient.row(row)[0] * load(only + column));
        } else {
            input_gradient(arena, weight, width, 0, depth, gradient, rows, finish);
        }
        if (shape.layer_norm) normalize_layer_backward(arena, shape, layer - 1, parameters, trace, next, rows, parameter_gradient);
        gradient = next;
    }
}

// -- Adam ---------------------------------------------------------------------------------------------------------------

struct AdamState {
    float *first, *second;  // moments, like the parameters
    float* steps;           // taken so far, one number
    float step_size, weight_decay;
};

// One step of torch.optim.Adam with its defaults on `count` parameters; `steps` must have been raised already.
inline void adam(const AdamState& state, std::size_t count, float* parameters, const float* gradient) {
    const double steps = *state.steps;
    const float step_size = (float)(state.step_size / (1.0 - std::pow(0.9, steps)));
    const float correction = (float)(1.0 / std::sqrt(1.0 - std::pow(0.999, steps)));
    const auto advance = [&](Vec& value, Vec slope, Vec& first, Vec& second) {
        slope += state.weight_decay * value;
        first += 0.1f * (slope - first);
        second = 0.999f * second + 0.001f * slope * slope;
        value -= step_size * first / (square_root(second) * correction + 1e-8f);
    };
    std::size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Vec value = load(parameters + i), first = load(state.first + i), second = load(state.second + i);
        advance(value, load(gradient + i), first, second);
        store(parameters + i, value);
        store(state.first + i, first);
        store(state.second + i, second);
    }
    const int left = (int)(count - i);
    if (!left) return;
    Vec value = load_first(parameters + i, left), first = load_first(state.first + i, left);
    Vec second = load_first(state.second + i, left);
    advance(value, load_first(gradient + i, left), first, second);
    store_first(parameters + i, value, left);
    store_first(state.first + i, first, left);
    store_first(state.second + i, second, left);
}

}  // namespace vagram
