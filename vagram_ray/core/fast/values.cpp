// Values of a stack of networks (networks.StackedMLP.forward without gradients).
#include <algorithm>

#include "networks.h"

using namespace vagram;

namespace {
constexpr int CHUNK = 512;  // rows at a time, so that hidden values stay in the cache
}

// N networks, whose parameters lie `row_size` floats apart, at inputs (N / sharing, rows, in): outputs (N, rows, out).
extern "C" void network_values(const float* parameters, std::int64_t row_size, std::int32_t networks, std::int32_t sharing,
                               const std::int32_t* sizes, std::int32_t layers, std::int32_t silu, std::int32_t unit_features,
                               std::int32_t layer_norm, const float* inputs, std::int64_t rows, float* outputs) {
    thread_local Arena arena;
    const Shape shape{layers, sizes, unit_features != 0, silu ? Activation::silu : Activation::relu, layer_norm != 0};
    const Index width_in = shape.inputs(), width_out = shape.outputs();
    for (Index network = 0; network < networks; ++network)
        for (Index first = 0; first < rows; first += CHUNK) {
            Scratch scratch(arena);
            Trace trace;
            const float* from = inputs + (network / sharing * rows + first) * width_in;
            const Batch in{const_cast<float*>(from), (int)width_in};
            forward(arena, shape, parameters + network * row_size, in, (int)std::min<Index>(CHUNK, rows - first),
                    outputs + (network * rows + first) * width_out, (int)width_out, false, trace);
        }
}
