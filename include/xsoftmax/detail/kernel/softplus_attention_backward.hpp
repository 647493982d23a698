// SPDX-License-Identifier: MIT
// Gradients of softplus attention, through the weights to the scores and through the cosines to queries and keys:
//   LSSA     p = u / S,  du = (dp - D) / S
//   LSSAR    x = r / max r,  p = x^p / C,  C = sum x^p,  g = factor x^(p - 1) (dp - D) where x > 0,
//            du = g - o / n sum g over all visible keys          factor = p / (C (max u - mean))
//   ds = sigma(s) du
// D = dout . out; sum g = factor W (dout . out' - D) from the outputs out' and the sum W of weights x^(p - 1).
#pragma once

#include <xsoftmax/detail/kernel/attention_backward.hpp>
#include <xsoftmax/detail/kernel/attention_steps.hpp>
#include <xsoftmax/detail/kernel/softplus_attention.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The gradient of x / |x| with respect to x: g becomes (g - y (y . g)) factor / |x| with y = x / |x|; 0 of a zero
/// vector, and where g is 0. prepared: y times the factor, which is read off from it. n is a multiple of a line; sums
/// are of 16 chains that are folded by halves, in double.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void through_normalisation(const T* x, const T* prepared, std::size_t n,
                                                                      T* g) {
  using D = batch<A, double>;
  using N = native<A>;
  using V = batch<A, T>;
  constexpr std::size_t line = attention_room::line;
  V largest(T{});
  V largest_gradient(T{});
  V no_number(T{});
  for (std::size_t c = 0; c < n; c += lanes<A, T>) {
    const V gradient = N::template load<T>(g + c);
    largest = N::max_magnitude(N::template load<T>(x + c), largest);
    largest_gradient = N::max_magnitude(gradient, largest_gradient);
    no_number = N::multiply_add(gradient, V(T{}), no_number);
  }
  if (N::largest_lane(largest_gradient) == 0 && !N::any_nan(no_number)) {
    return;
  }
  const V unit = inverse_octave<A, T>(V(N::largest_lane(largest)));
  const auto line_of = [&](const T* from) XSOFTMAX_STEP_LAMBDA {
    return in_doubles<A>(make_pack<line / lanes<A, T>>(
        [&](auto b) XSOFTMAX_STEP_LAMBDA { return N::template load<T>(from + decltype(b)::value * lanes<A, T>); }));
  };
  const D wide_unit(static_cast<double>(unit.get(0)));
  const auto value_of = [&](std::size_t c) XSOFTMAX_STEP_LAMBDA {
    return map([&](D v) XSOFTMAX_STEP_LAMBDA { return v * wide_unit; }, line_of(x + c));
  };
  const auto add_product = [](D a, D b, D sum) XSOFTMAX_STEP_LAMBDA { return N::multiply_add(a, b, sum); };
  auto squares = make_pack<line / lanes<A, double>>([](auto) XSOFTMAX_STEP_LAMBDA { return D(0.0); });
  auto along = squares;
  auto factors = squares;
  for (std::size_t c = 0; c < n; c += line) {
    const auto value = value_of(c);
    squares = map(add_product, value, value, squares);
    along = map(add_product, value, line_of(g + c), along);
    factors = prepared == nullptr ? factors : map(add_product, value, line_of(prepared + c), factors);
  }
  const auto sum_of = [](const auto& sums) XSOFTMAX_STEP_LAMBDA {
    return D(N::fold_sum(fold_batches(sums, [](D a, D b) XSOFTMAX_STEP_LAMBDA { return a + b; })));
  };
  const D square = sum_of(squares);
  if (square.get(0) == 0) {
    clear<A>(g, n);
    return;
  }
  const D part = N::divide(sum_of(along), square);
  const D scale = prepared == nullptr ? N::divide(D(1.0), N::square_root(square)) : N::divide(sum_of(factors), square);
  for (std::size_t c = 0; c < n; c += line) {
    const auto result =
        map([&](D value, D gradient)
                XSOFTMAX_STEP_LAMBDA { return N::negative_multiply_add(value, part, gradient) * scale * wide_unit; },
            value_of(c), line_of(g + c));
    unroll<line / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      if constexpr (sizeof(T) == sizeof(double)) {
        N::store(g + c + at * lanes<A, T>, result.v[at]);
      } else {
        N::store(g + c + at * lanes<A, T>, N::narrow(result.v[2 * at], result.v[2 * at + 1]));
      }
    });
  }
}

/// What the links of cosines share.
template <class A, class T>
class cosine_gradients {
public:
  static constexpr bool has_bias = false;

  XSOFTMAX_STEP explicit cosine_gradients(const attention_backward_task<T>& task) : depth_(task.depth) {}

  XSOFTMAX_STEP void prepare_keys(T* block, std::size_t depth, std::size_t count) const {
    normalise_keys<A>(block, depth, count);
  }

  template <class Row>
  XSOFTMAX_STEP void finish_query(const Row& row, const T* prepared, T* sum, T* room) const {
    through_normalisation<A>(read_line(row, room), prepared, padded_depth(), sum);
  }

  template <class Row>
  XSOFTMAX_STEP void finish_key(const Row& row, T* sum, T* room) const {
    through_normalisation<A>(read_line(row, room), static_cast<const T*>(nullptr), padded_depth(), sum);
  }

  XSOFTMAX_STEP double head_sum(std::size_t, const T*) const { return 0; }

  XSOFTMAX_STEP void write_number(const attention_backward_task<T>&, std::size_t, std::size_t, std::size_t,
                                  const T*) const {}

private:
  XSOFTMAX_STEP std::size_t padded_depth() const { return attention_room::padded(depth_); }

  template <class Row>
  XSOFTMAX_STEP const T* read_line(const Row& row, T* room) const {
    read_padded<A>(row, depth_, room);
    return room;
  }

  std::size_t depth_;
};

template <class A, class T>
class softplus_gradients : public cosine_gradients<A, T> {
public:
  using V = batch<A, T>;
  using forward = softplus_weights<A, T>;

  XSOFTMAX_STEP softplus_gradients(const attention_backward_task<T>& task, std::size_t)
      : cosine_gradients<A, T>(task) {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void recall(const recalled_tile<A, T>& tile) const {
    if (!tile.task.saved) {
      tile.template run<recalled>(0);
    }
    for (std::size_t r = 0; r < tile.rows.count(); ++r) {
      T* const number = tile.number.from(r).data;
      if (tile.task.saved) {
        T sum;
        tile.read_saved(r, &sum);
        number[inverse_sum] = sum == 0 ? T{} : T{1} / sum;
      }
      number[mean] = tile.gradient_times_out(r);
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void slopes(std::size_t rows, matrix_rows<T> numbers, T* scores, T* dp,
                                                         const key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      const T* const number = numbers.from(i).data;
      const V inverse(number[inverse_sum]);
      const V d(number[mean]);
      const auto s = load_block<A, T>(scores + i * key_block);
      auto p = map([&](V score) XSOFTMAX_STEP_LAMBDA { return math::softplus<A, T>(score) * inverse; }, s);
      auto ds =
          map([&](V score, V of) XSOFTMAX_STEP_LAMBDA { return math::sigmoid<A, T>(score) * ((of - d) * inverse); }, s,
              load_block<A, T>(dp + i * key_block));
      if (visible[i] != all_keys) {
        p = only_visible<A>(p, visible[i], T{});
        ds = only_visible<A>(ds, visible[i], T{});
      }
      store_block<A>(scores + i * key_block, p);
      store_block<A>(dp + i * key_block, ds);
    }
  }

private:
  enum : std::size_t { inverse_sum, mean };

  /// Leaves 1 / S.
  class recalled : public forward {
  public:
    using forward::forward;

    XSOFTMAX_STEP T finish(std::size_t r) const {
      const T factor = forward::finish(r);
      this->write_numbers(r, &factor);
      return factor;
    }
  };
};

template <class A, class T>
class reweighted_gradients : public cosine_gradients<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  using forward = reweighted_weights<A, T>;

  XSOFTMAX_STEP reweighted_gradients(const attention_backward_task<T>& task, std::size_t)
      : cosine_gradients<A, T>(task), power_(task.reweight_power), power_of_(task.reweight_power - 1) {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void recall(const recalled_tile<A, T>& tile) const {
    tile.template run<recalled>(power_);
    for (std::size_t r = 0; r < tile.rows.count(); ++r) {
      tile.number.from(r).data[mean] = tile.gradient_times_out(r);
    }
    const recalled_tile<A, T> sums{tile.task,     tile.forward, tile.unit, tile.rows, tile.number.from(0, lower_sum),
                                   tile.gradient, tile.out};
    sums.template run<recalled_sum>(power_ - 1);
    for (std::size_t r = 0; r < tile.rows.count(); ++r) {
      T* const number = tile.number.from(r).data;
      const double factor =
          power_ * static_cast<double>(number[inverse_largest]) * static_cast<double>(number[inverse_sum]);
      const T difference = tile.gradient_times_out(r) - number[mean];
      const double sum = factor * static_cast<double>(number[lower_sum]) * static_cast<double>(difference);
      number[slope_factor] = static_cast<T>(factor);
      number[offset] = number[keys] > 3 ? static_cast<T>(sum / static_cast<double>(number[keys])) : T{};
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void slopes(std::size_t rows, matrix_rows<T> numbers, T* scores, T* dp,
                                                         key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      visible[i] = slopes_of_row(numbers.from(i).data, scores + i * key_block, dp + i * key_block, visible[i]);
    }
  }

private:
  enum : std::size_t { high, low, inverse_largest, inverse_sum, mean, keys, slope_factor, lower_sum, offset = keys };

  XSOFTMAX_STEP key_bits slopes_of_row(const T* number, T* score, T* slope, key_bits visible) const {
    const auto s = load_block<A, T>(score);
    const auto of = load_block<A, T>(slope);
    const auto u = map([](V v) XSOFTMAX_STEP_LAMBDA { return math::softplus<A, T>(v); }, s);
    const V d(number[mean]);
    const V inverse(number[inverse_sum]);
    block_pack<A, T> p;
    block_pack<A, T> du;
    key_bits without = 0;
    if (number[inverse_largest] == 0) { // a uniform row: B = A
      p = map([&](V v) XSOFTMAX_STEP_LAMBDA { return v * inverse; }, u);
      du = map([&](V v) XSOFTMAX_STEP_LAMBDA { return (v - d) * inverse; }, of);
    } else {
      const V factor(number[slope_factor]);
      const V shift(number[offset]);
      unroll<block_pack<A, T>::size>([&](auto n) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t b = decltype(n)::value;
        const V above = ((u.v[b] - V(number[high])) - V(number[low])) * V(number[inverse_largest]);
        const V x = N::max_keeping_nan(above, V(T{}));
        const V y = power_of_(x);
        const V c = y * x;
        p.v[b] = c * inverse;
        const V g = uncontracted(y * ((of.v[b] - d) * factor));
        du.v[b] = N::zero_where_equal(x, V(T{}), g) - shift;
        without |= key_bits{N::equal_bits(c, V(T{}))} << (b * lanes<A, T>);
      });
    }
    auto ds = map([](V v, V w) XSOFTMAX_STEP_LAMBDA { return math::sigmoid<A, T>(v) * w; }, s, du);
    if (visible != all_keys) {
      p = only_visible<A>(p, visible, T{});
      ds = only_visible<A>(ds, visible, T{});
    }
    store_block<A>(score, p);
    store_block<A>(slope, ds);
    return visible & ~without;
  }

  /// Leaves what the forward knew of a query.
  class recalled : public forward {
  public:
    using forward::forward;

    XSOFTMAX_STEP T finish(std::size_t r) const {
      const T factor = forward::finish(r);
      const T number[] = {this->array(forward::mean_high)[r],
                          this->array(forward::mean_low)[r],
                          this->array(forward::inverse_largest)[r],
                          factor,
                          T{},
                          static_cast<T>(this->keys_seen(r))};
      this->write_numbers(r, number, keys + 1);
      return factor;
    }
  };

  /// Leaves the sum of its weights.
  class recalled_sum : public forward {
  public:
    using forward::forward;

    XSOFTMAX_STEP T finish(std::size_t r) const {
      this->write_numbers(r, this->array(forward::total_sum) + r);
      return forward::finish(r);
    }
  };

  double power_;
  power_of_excess<A, T> power_of_;
};

template <class A, class T>
struct softplus_attention_backward {
  static void run(const softplus_attention_backward_task<T>& task) noexcept {
    if (task.reweight_power == 0) {
      run_attention_gradients<A, T, softplus_gradients<A, T>>(task);
    } else {
      run_attention_gradients<A, T, reweighted_gradients<A, T>>(task);
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel
