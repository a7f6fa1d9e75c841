// Matrix products and elementwise functions on plain float arrays, written with the compiler's vector extensions so that
// one text serves AVX-512, AVX2, NEON and SSE.
//
// A product is computed tile by tile: a few rows of the left matrix times a panel of the right one stay in registers
// while the depth is summed. The right matrix is copied into panels first ("packed"), so that it is read in order
// whatever its layout. What happens to a finished tile (bias, activation, derivative, where to) is the caller's `store`.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace vagram {

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_ROWS = 8, WIDE = 2;
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_ROWS = 6, WIDE = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_ROWS = 6, WIDE = 4;
#else
constexpr int LANES = 4, TILE_ROWS = 4, WIDE = 2;
#endif
constexpr int PANEL = WIDE * LANES;  // columns of a full panel

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef std::int32_t IVec __attribute__((vector_size(LANES * sizeof(float))));
typedef float UnalignedVec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

using Index = std::ptrdiff_t;

inline Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
inline Vec splat(float value) { return value - Vec{}; }
inline int padded(int columns) { return (columns + LANES - 1) / LANES * LANES; }

inline Vec load_first(const float* from, int count) {  // the other lanes are 0
    Vec value{};
    std::memcpy(&value, from, count * sizeof(float));
    return value;
}
inline void store_first(float* to, Vec value, int count) {
    if (count >= LANES) store(to, value);
    else for (int lane = 0; lane < count; ++lane) to[lane] = value[lane];
}
inline float sum_of(Vec value) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) value[lane] += value[lane + half];
    return value[0];
}
inline Vec select(IVec condition, Vec yes, Vec no) {
    return (Vec)(((IVec)yes & condition) | ((IVec)no & ~condition));
}
inline Vec larger(Vec a, Vec b) { return select(a > b, a, b); }
inline Vec rectify(Vec x) { return select(x < 0.0f, Vec{}, x); }  // NaN stays NaN
inline Vec magnitude(Vec x) { return (Vec)((IVec)x & 0x7fffffff); }

// -- elementary functions: relative error of exp and absolute error of the others below 2e-7 --------------------------

// exp(rest) and whole of exp(x) = exp(rest) 2^whole, for |x| below 2^20.
inline Vec exponential_parts(Vec x, IVec& exponent) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    const Vec whole = (x * 1.44269504088896341f + shift) - shift;
    const Vec rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;  // in [-ln(2)/2, ln(2)/2]
    Vec series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    exponent = __builtin_convertvector(whole, IVec);
    return series * rest * rest + rest + 1.0f;
}

inline Vec exponential(Vec x) {
    const IVec too_large = x > 88.72f, too_small = x < -87.33f;
    IVec exponent;
    const Vec series = exponential_parts(select(too_large, splat(88.72f), select(too_small, splat(-87.33f), x)), exponent);
    const IVec half = exponent >> 1;  // in two steps, as 2^128 has no float
    const Vec scaled = series * (Vec)((half + 127) << 23) * (Vec)((exponent - half + 127) << 23);
    const Vec limited = select(too_large, splat(INFINITY), select(too_small, splat(0.0f), scaled));
    return select(x == x, limited, x);  // NaN stays NaN
}

inline Vec logarithm(Vec x) {  // of positive, normal numbers
    IVec bits = (IVec)x;
    IVec exponent = ((bits >> 23) & 0xff) - 126;
    Vec mantissa = (Vec)((bits & 0x007fffff) | 0x3f000000);  // in [0.5, 1)
    const IVec small = mantissa < 0.707106781186547524f;
    exponent += small;  // a true lane is -1
    mantissa = select(small, mantissa + mantissa, mantissa) - 1.0f;
    const Vec square = mantissa * mantissa;
    Vec series = mantissa * 7.0376836292e-2f - 1.1514610310e-1f;
    series = series * mantissa + 1.1676998740e-1f;
    series = series * mantissa - 1.2420140846e-1f;
    series = series * mantissa + 1.4249322787e-1f;
    series = series * mantissa - 1.6668057665e-1f;
    series = series * mantissa + 2.0000714765e-1f;
    series = series * mantissa - 2.4999993993e-1f;
    series = series * mantissa + 3.3333331174e-1f;
    const Vec power = __builtin_convertvector(exponent, Vec);
    Vec result = series * mantissa * square + power * -2.12194440e-4f - square * 0.5f;
    return mantissa + result + power * 0.693359375f;
}

inline Vec sigmoid(Vec x) {
    const Vec bounded = select(x > 87.0f, splat(87.0f), select(x < -87.0f, splat(-87.0f), x));  // NaN stays NaN
    IVec exponent;
    const Vec series = exponential_parts(-bounded, exponent);
    return 1.0f / (1.0f + series * (Vec)((exponent + 127) << 23));
}

inline Vec softplus(Vec x) {  // log(1 + exp(x))
    return select(x == x, larger(x, Vec{}) + logarithm(1.0f + exponential(-magnitude(x))), x);
}

inline Vec hyperbolic_tangent(Vec x) {
    const Vec size = magnitude(x);
    const Vec large = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
    const Vec square = x * x;
    Vec series = square * -5.70498872745e-3f + 2.06390887954e-2f;
    series = series * square - 5.37397155531e-2f;
    series = series * square + 1.33314422036e-1f;
    series = series * square - 3.33332819422e-1f;
    const Vec small = series * square * x + x;
    const Vec signed_large = (Vec)((IVec)large | ((IVec)x & (std::int32_t)0x80000000));
    return select(size < 0.625f, small, signed_large);
}

inline Vec square_root(Vec x) {
    Vec result;
    for (int lane = 0; lane < LANES; ++lane) result[lane] = std::sqrt(x[lane]);  // one instruction with -O3
    return result;
}

// -- memory -------------------------------------------------------------------------------------------------------------

// Working memory that is taken piece by piece, given back all at once, and kept for the next call.
class Arena {
public:
    float* take(std::size_t count) {
        count = (count + 15) / 16 * 16;
        while (block_ < blocks_.size() && used_ + count > blocks_[block_].size) ++block_, used_ = 0;
        if (block_ == blocks_.size()) add_block(count);
        float* taken = blocks_[block_].start + used_;
        used_ += count;
        return taken;
    }
    float* zeros(std::size_t count) {
        float* taken = take(count);
        std::memset(taken, 0, count * sizeof(float));
        return taken;
    }
    struct Mark { std::size_t block, used; };
    Mark mark() const { return {block_, used_}; }
    void release(Mark mark) { block_ = mark.block, used_ = mark.used; }  // all that was taken since

private:
    struct Block {
        std::unique_ptr<float[]> memory;
        float* start;
        std::size_t size;
    };
    void add_block(std::size_t count) {
        const std::size_t size = count > (1u << 20) ? count : (1u << 20);
        std::unique_ptr<float[]> memory(new float[size + 16]);
        const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory.get());
        float* start = reinterpret_cast<float*>((address + 63) / 64 * 64);
        blocks_.push_back({std::move(memory), start, size});
        used_ = 0;
    }
    std::vector<Block> blocks_;
    std::size_t block_ = 0, used_ = 0;
};

class Scratch {  // what is taken while it lives is given back when it ends
public:
    explicit Scratch(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
    ~Scratch() { arena_.release(mark_); }

private:
    Arena& arena_;
    Arena::Mark mark_;
};

// -- packing the right matrix of a product ------------------------------------------------------------------------------

inline std::size_t packed_size(int depth, int columns) { return (std::size_t)depth * padded(columns); }

// Columns of the panel that begins at `column`: a full one, or what is left in whole vectors.
inline int panel_width(int column, int columns) {
    const int left = padded(columns - column);
    return left < PANEL ? left : PANEL;
}

// Copy b (depth, columns), whose rows are `stride` apart, into panels; columns are filled up with zeros.
inline void pack(const float* b, Index stride, int depth, int columns, float* packed) {
    for (int column = 0; column < columns; column += PANEL) {
        const int width = panel_width(column, columns), left = columns - column;
        for (int k = 0; k < depth; ++k, packed += width) {
            const float* row = b + k * stride + column;
            for (int lane = 0; lane < width; lane += LANES) {
                const bool whole = left - lane >= LANES;
                store(packed + lane, whole ? load(row + lane) : load_first(row + lane, left - lane));
            }
        }
    }
}

template <int STEP>
inline void exchange(Vec (&rows)[LANES]) {
    IVec low, high;  // of a pair of rows: columns in blocks of STEP, every other block from the other row
    for (int lane = 0; lane < LANES; ++lane) {
        low[lane] = lane & STEP ? LANES + (lane ^ STEP) : lane;
        high[lane] = lane & STEP ? LANES + lane : lane ^ STEP;
    }
    for (int row = 0; row < LANES; ++row) {
        if (row & STEP) continue;
        const Vec first = rows[row], second = rows[row + STEP];
#if defined(__clang__)
        for (int lane = 0; lane < LANES; ++lane) {
            rows[row][lane] = low[lane] < LANES ? first[low[lane]] : second[low[lane] - LANES];
            rows[row + STEP][lane] = high[lane] < LANES ? first[high[lane]] : second[high[lane] - LANES];
        }
#else
        rows[row] = __builtin_shuffle(first, second, low);
        rows[row + STEP] = __builtin_shuffle(first, second, high);
#endif
    }
}

inline void transpose(Vec (&rows)[LANES]) {
    exchange<1>(rows);
    exchange<2>(rows);
    if constexpr (LANES >= 8) exchange<4>(rows);
    if constexpr (LANES >= 16) exchange<8>(rows);
}

// As `pack`, of the transpose of w (columns, depth), whose rows are `stride` apart.
inline void pack_transposed(const float* w, Index stride, int depth, int columns, float* packed) {
    for (int column = 0; column < columns; column += PANEL) {
        const int width = panel_width(column, columns);
        for (int lane = 0; lane < width; lane += LANES) {
            const int valid = columns - column - lane < LANES ? columns - column - lane : LANES;
            for (int k = 0; k < depth; k += LANES) {
                const int count = depth - k < LANES ? depth - k : LANES;
                Vec block[LANES];
                for (int row = 0; row < LANES; ++row) {
                    const float* from = w + (column + lane + row) * stride + k;
                    block[row] = row >= valid ? Vec{} : count == LANES ? load(from) : load_first(from, count);
                }
                transpose(block);
                for (int row = 0; row < count; ++row) store(packed + (Index)(k + row) * width + lane, block[row]);
            }
        }
        packed += (std::size_t)depth * width;
    }
}

// -- products -----------------------------------------------------------------------------------------------------------

struct Left {  // element (row, k) of the left matrix is data[row * row_stride + k * depth_stride]
    const float* data;
    Index row_stride, depth_stride;
};

template <int ROWS, int VECTORS, class Store>
inline void tile(int depth, const float* a, Index row_stride, Index depth_stride, const float* b, Store&& finish) {
    Vec sums[ROWS][VECTORS] = {};
    for (int k = 0; k < depth; ++k) {
        Vec right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = load(b + v * LANES);
        for (int row = 0; row < ROWS; ++row) {
            const Vec left = splat(a[row * row_stride]);
            for (int v = 0; v < VECTORS; ++v) sums[row][v] += left * right[v];
        }
        a += depth_stride;
        b += VECTORS * LANES;
    }
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) finish(row, v * LANES, sums[row][v]);
}

template <int ROWS, int VECTORS, class Store>
inline void last_rows(int rows, int depth, Left a, const float* b, Store&& finish) {
    if constexpr (ROWS > 0) {
        if (rows == ROWS) tile<ROWS, VECTORS>(depth, a.data, a.row_stride, a.depth_stride, b, finish);
        else last_rows<ROWS - 1, VECTORS>(rows, depth, a, b, finish);
    }
}

template <int VECTORS, class Store>
inline void panel_product(int rows, int depth, Left a, const float* b, Store&& finish) {
    int row = 0;
    for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
        tile<TILE_ROWS, VECTORS>(
            depth, a.data + row * a.row_stride, a.row_stride, a.depth_stride, b,
            [&](int i, int j, Vec sum) { finish(row + i, j, sum); });
    const Left rest{a.data + row * a.row_stride, a.row_stride, a.depth_stride};
    last_rows<TILE_ROWS - 1, VECTORS>(rows - row, depth, rest, b, [&](int i, int j, Vec sum) { finish(row + i, j, sum); });
}

template <int VECTORS, class Store>
inline void narrow_panel(int width, int rows, int depth, Left a, const float* b, Store&& finish) {
    if constexpr (VECTORS > 0) {
        if (width == VECTORS * LANES) panel_product<VECTORS>(rows, depth, a, b, finish);
        else narrow_panel<VECTORS - 1>(width, rows, depth, a, b, finish);
    }
}

// The product of a (rows, depth) and packed b (depth, columns), handed to `finish(row, column, sums)` one vector at a time;
// lanes beyond the last column are 0.
template <class Store>
inline void product(int rows, int depth, int columns, Left a, const float* packed, Store&& finish) {
    for (int column = 0; column < columns; column += PANEL) {
        const int width = panel_width(column, columns);
        narrow_panel<WIDE>(width, rows, depth, a, packed,
                           [&](int row, int j, Vec sum) { finish(row, column + j, sum); });
        packed += (std::size_t)depth * width;
    }
}

}  // namespace vagram
