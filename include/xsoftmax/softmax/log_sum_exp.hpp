// SPDX-License-Identifier: MIT
// log(sum exp(z / T)) of a row, of each row of a matrix, and of logits that come piece by piece.
#pragma once

#include <optional>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/long_row.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of log_sum_exp. Members only ever join at the end.
struct log_sum_exp_options {
  double temperature = 1.0;                  ///< T of log(sum exp(z / T)), in (0, inf)
  std::optional<double> sink = std::nullopt; ///< an extra logit
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
log_sum_exp_task<T> rows_of(log_sum_exp_task<T> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.out = elements_from<T>(task.out, 0, first);
  task.rows = count;
  return task;
}

/// One long row in parts: a state of each, merged.
template <class Arch, class Run, class T, class Kernel>
bool run_long_row(const Run& run, const log_sum_exp_task<T>& row, const part_split& split, const Kernel&) {
  using task = log_sum_exp_state_task<T>;
  const part_summaries<T> summaries(Arch{}, run, task::step::push, row.z, row.temperature, split);
  T value{};
  call::log_sum_exp_state(Arch{}, task{.what = task::step::value,
                                       .temperature = row.temperature,
                                       .other = &summaries.part[0],
                                       .sink = row.sink,
                                       .value = &value});
  put(row.out, value);
  return true;
}

/// Checks the options of log_sum_exp and hands launch(task, input) what is to be done: one number into `out`, a row,
/// of each row of `in`.
template <class T, class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_log_sum_exp(const matrix_view<const In>& in, const matrix_view<Out>& out,
                                         const log_sum_exp_options& options, Launch&& launch) {
  const double sink = options.sink.value_or(-__builtin_inf());
  if (!positive_temperature("log_sum_exp", options.temperature) || !valid_sink("log_sum_exp", sink)) {
    return;
  }
  launch(
      log_sum_exp_task<T>{
          .z = source_of(in),
          .out = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .temperature = options.temperature,
          .sink = sink,
      },
      in);
}

/// The same for the public function over rows, with its shapes.
template <class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_log_sum_exp_of_rows(In&& z, Out&& out, const log_sum_exp_options& options,
                                                 Launch&& launch) {
  using OutView = view_of<std::remove_reference_t<Out>>;
  static_assert(is_vector<OutView>, "xsoftmax: log_sum_exp writes one number per row, into a row");
  static_assert(std::is_lvalue_reference_v<Out> || refers_to_elements<Out>(),
                "xsoftmax: the output is a temporary container: its result would be lost");
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto results = output_matrix(out);
  // As matrices both, so that only the element types are compared.
  check_types<decltype(in)&, decltype(output_matrix(out))>();
  if (in.rows() != results.cols()) {
    raise_mismatch("log_sum_exp", "out must have one element for each row of z", "rows of z", in.rows(),
                   "length of out", results.cols());
    return;
  }
  checked_log_sum_exp<compute_of<In>>(in, results, options, launch);
}

} // namespace detail

/// Log-sum-exp: log(sum_k exp(z_k / T)), with exp(sink / T) added to the sum where a sink is given.
///
/// z is a row (any contiguous sized range, or a vector_view). T and the sink are in the units of the logits.
///
/// Special values, in this order of precedence:
///   length 0: -inf           | any NaN: NaN                      | one or more +inf: +inf
///   all -inf: -inf           | length 0 or all -inf, with a sink: sink / T, rounded once
///
/// Accuracy: within 0.65 ULP for float and 2 ULP for double, in units in the last place of the larger of |maximum / T|
/// and |result|; one logit alone is z / T, rounded once. Largest errors that searches of eight million rows have found:
/// 0.596 for float in a row of 5 at T = 1.85434799, 1.74 for double in a row of 2 at T = 2.40645224, where the maximum
/// and the logarithm of the sum nearly cancel.
/// The bits depend on the row's values and T alone: not on strides, alignment, neighbours, trailing -inf, nor, with
/// fused multiply-add, on the architecture or compiler. They are those of a log_sum_exp_state to which the row was
/// pushed in pieces cut at multiples of its block_size.
///
/// Cost: no allocation; one pass over z, which reads each block twice.
/// Throws std::invalid_argument if T is not in (0, inf), or the sink is NaN or +inf.
template <class Arch = default_arch, class In>
[[nodiscard]] XSOFTMAX_INLINE auto log_sum_exp(In&& z, const log_sum_exp_options& options = {}) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: log_sum_exp of a matrix needs an output; only that of a row is returned");
  using T = detail::compute_of<In>;
  T value = static_cast<T>(__builtin_nan(""));
  detail::checked_log_sum_exp<T>(detail::input_matrix(held), matrix_view<T>(&value, 1, 1), options,
                                 [](const auto& task, const auto&)
                                     XSOFTMAX_LAMBDA { detail::call::log_sum_exp(Arch{}, task); });
  return value;
}

/// The same for each row of a matrix (matrix_view): out is a row of z.rows() elements. Throws std::invalid_argument
/// also if it is not; nothing has been written then.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, log_sum_exp_options>) XSOFTMAX_INLINE
    void log_sum_exp(In&& z, Out&& out, const log_sum_exp_options& options = {}) {
  detail::checked_log_sum_exp_of_rows(std::forward<In>(z), std::forward<Out>(out), options,
                                      [](const auto& task, const auto&)
                                          XSOFTMAX_LAMBDA { detail::call::log_sum_exp(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out>
void log_sum_exp(Executor&& executor, In&& z, Out&& out, const log_sum_exp_options& options = {}) {
  detail::checked_log_sum_exp_of_rows(
      std::forward<In>(z), std::forward<Out>(out), options, [&](const auto& task, const auto& in) {
        detail::run_rows<Arch>(executor, in, task, [](const auto& part) { detail::call::log_sum_exp(Arch{}, part); });
      });
}

/// Log-sum-exp of logits that come in pieces: from a stream, from shards, from threads. No logit is kept; states of
/// parts merge in any order and association.
///
/// A piece is seen in blocks of block_size elements, and pieces cut at multiples of it give the bits of one push of
/// the whole, and of log_sum_exp: in whatever order and however merged (beyond 2^30 elements, up to 2^-100 of the
/// sum). Other cuts stay within the bound. A state that has seen nothing, or only -inf, is neutral. Trivially copyable,
/// and laid out the same on every architecture.
template <class T>
class log_sum_exp_state {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "xsoftmax: elements must be float or double");

public:
  /// Elements of a block.
  static constexpr std::size_t block_size = 8192 / sizeof(T);

  /// Throws std::invalid_argument if the temperature is not in (0, inf).
  explicit log_sum_exp_state(double temperature = 1.0)
      : temperature_(detail::positive_temperature("log_sum_exp_state", temperature) ? temperature : 1.0) {}

  [[nodiscard]] double temperature() const noexcept { return temperature_; }

  /// The elements of a row (any contiguous sized range, or a vector_view).
  template <class Arch = default_arch, class In>
  void push(In&& z) {
    static_assert(std::is_same_v<detail::compute_of<In>, T>, "xsoftmax: the row's elements are not those of the state");
    static_assert(detail::is_vector<detail::view_of<std::remove_reference_t<In>>>,
                  "xsoftmax: a state takes rows, not matrices");
    const auto& held = detail::evaluated(z);
    const auto row = detail::input_matrix(held);
    run<Arch>({.what = step::push, .state = &summary_, .z = detail::source_of(row), .cols = row.cols()});
  }

  /// What the other state has seen. Throws std::invalid_argument if the temperatures differ.
  template <class Arch = default_arch>
  void merge(const log_sum_exp_state& other) {
    if (temperature_ != other.temperature_) {
      detail::raise_mismatch("log_sum_exp_state::merge", "the states differ in their temperature", "temperature",
                             temperature_, "temperature of the other", other.temperature_);
      return;
    }
    const detail::log_sum_exp_summary copy = other.summary_; // a state may be merged with itself
    run<Arch>({.what = step::merge, .state = &summary_, .other = &copy});
  }

  /// log(sum exp(z / T)) of all that was seen, and of the sink: as log_sum_exp.
  template <class Arch = default_arch>
  [[nodiscard]] T value(std::optional<double> sink = std::nullopt) const {
    const double extra = sink.value_or(-__builtin_inf());
    T result = static_cast<T>(__builtin_nan(""));
    if (detail::valid_sink("log_sum_exp_state::value", extra)) {
      run<Arch>({.what = step::value, .other = &summary_, .sink = extra, .value = &result});
    }
    return result;
  }

  /// For the library's own functions over states.
  [[nodiscard]] const detail::log_sum_exp_summary& summary() const noexcept { return summary_; }

private:
  using task_type = detail::log_sum_exp_state_task<T>;
  using step = typename task_type::step;

  template <class Arch>
  void run(task_type task) const {
    task.temperature = temperature_;
    detail::call::log_sum_exp_state(Arch{}, task);
  }

  double temperature_;
  detail::log_sum_exp_summary summary_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE
