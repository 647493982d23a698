// SPDX-License-Identifier: MIT
// The door of attention's backward: checks, the task for the kernels, and how it is shared out.
#pragma once

#include <xsoftmax/detail/attention_arguments.hpp>
#include <xsoftmax/detail/attention_backward_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// The shape of a gradient: that of what it is the gradient of.
template <class X, class G>
bool checked_gradient(const char* function, const char* name, const attention_view<X>& x, const char* gradient_name,
                      const attention_view<G>& g) {
  return equal_extents(function, "a gradient differs in its batch", name, x.batch(), gradient_name, g.batch()) &&
         equal_extents(function, "a gradient differs in its heads", name, x.heads(), gradient_name, g.heads()) &&
         equal_extents(function, "a gradient differs in its length", name, x.length(), gradient_name, g.length()) &&
         equal_extents(function, "a gradient differs in its depth", name, x.depth(), gradient_name, g.depth());
}

/// Is an output of the options of the type that is computed in, and a matrix of that extent?
template <class T>
bool checked_gradient_option(const char* function, const char* name, const gradient_output& x, const char* rows_name,
                             std::size_t rows, const char* cols_name, std::size_t cols) {
  if (x.empty()) {
    return true;
  }
  if (x.kind() != kind_of<T>()) {
    raise_mismatch(function, "an option's gradient must be of the type that is computed in", name,
                   x.kind() == number_kind::float64 ? sizeof(double) : sizeof(float), "bytes computed in", sizeof(T));
    return false;
  }
  constexpr const char* what = "an option's gradient has another extent";
  return equal_extents(function, what, name, x.extent(0) * x.extent(1), rows_name, rows) &&
         equal_extents(function, what, name, x.extent(2), cols_name, cols) &&
         equal_extents(function, what, name, x.extent(3), "1", 1);
}

template <class T>
void set_number(const gradient_output& x, std::size_t row, std::size_t col, T value) {
  const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(row / x.extent(1)) * x.stride(0) +
                                static_cast<std::ptrdiff_t>(row % x.extent(1)) * x.stride(1) +
                                static_cast<std::ptrdiff_t>(col) * x.stride(2);
  static_cast<T*>(x.data())[offset] = value;
}

/// How units, the queries that share a head of keys, are shared out: by themselves or, where they are few, the segments
/// of one after the other.
struct attention_backward_split {
  static constexpr std::size_t most = 64;
  static constexpr std::size_t few_units = 8;

  std::size_t units = 0;
  std::size_t group = 0;
  std::size_t rows_per_segment = 0;
  std::size_t tiles_per_segment = 1;
  std::size_t segments = 0;
  std::size_t blocks = 0; ///< of keys
  std::size_t bodies = 1;
  bool by_segments = false;

  template <class T>
  attention_backward_split(const attention_task<T>& task, bool shared) {
    const auto quotient_up = [](std::size_t a, std::size_t b) { return a / b + (a % b != 0 ? 1 : 0); };
    units = task.batch * task.kv_heads;
    if (units == 0) {
      return;
    }
    group = task.heads / task.kv_heads;
    const std::size_t rows = group * task.q_len;
    const std::size_t tiles = quotient_up(rows, query_tile);
    tiles_per_segment = quotient_up(tiles, most_query_segments);
    tiles_per_segment = tiles_per_segment < least_segment_tiles ? least_segment_tiles : tiles_per_segment;
    segments = quotient_up(tiles, tiles_per_segment);
    rows_per_segment = rows < tiles_per_segment * query_tile ? rows : tiles_per_segment * query_tile;
    blocks = quotient_up(task.kv_len, key_block);
    const bool worthwhile = shared && units * rows * task.kv_len * (task.depth + task.value_depth + 1) > (1u << 19);
    by_segments = worthwhile && units < few_units && segments > 1;
    bodies = by_segments ? segments : !worthwhile ? 1 : units < most ? units : most;
  }

  attention_backward_room room(std::size_t depth, std::size_t value_depth, std::size_t bytes) const {
    return attention_backward_room(rows_per_segment, depth, value_depth, by_segments ? 0 : blocks, bytes);
  }

  /// Elements of T, and where parts begin that all bodies see.
  template <class T>
  struct layout {
    std::size_t one;
    std::size_t partial;
    std::size_t key_sums;
    std::size_t head_sums;
    std::size_t total;

    layout(const attention_backward_split& split, const attention_task<T>& task) {
      const attention_backward_room room = split.room(task.depth, task.value_depth, sizeof(T));
      one = room.total;
      partial = split.bodies * one;
      key_sums = partial + (split.by_segments ? split.segments * split.blocks * room.record : 0);
      head_sums = key_sums + split.units * split.blocks * key_block;
      const std::size_t words = sizeof(double) / sizeof(T);
      total = head_sums + split.units * split.segments * split.group * words + attention_room::line;
    }
  };
};

/// Elements of workspace that the task needs.
template <class T>
std::size_t backward_elements(const attention_task<T>& task, bool shared) {
  const attention_backward_split split(task, shared);
  return split.units == 0 ? 0 : attention_backward_split::layout<T>(split, task).total;
}

/// Checks what all kinds have, then has own(task, queries, values, apart) check and set the rest, where apart(name,
/// view) says whether an input shares no element with an output, and hands launch(task) what is to be done.
template <template <class> class Task, class Q, class K, class V, class DOut, class DQ, class DK, class DV,
          class Options, class Own, class Launch>
void checked_attention_backward(const char* function, const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq,
                                DK&& dk, DV&& dv, const Options& options, const Own& own, const Launch& launch) {
  const auto check_types_with = []<class Out>(std::type_identity<Out>) {
    check_attention_types<const Q, Out>();
    check_attention_types<const K, Out>();
    check_attention_types<const V, Out>();
    check_attention_types<const DOut, Out>();
  };
  check_types_with(std::type_identity<DQ>{});
  check_types_with(std::type_identity<DK>{});
  check_types_with(std::type_identity<DV>{});
  using T = attention_compute<const Q>;
  const auto& held_q = evaluated(q);
  const auto& held_k = evaluated(k);
  const auto& held_v = evaluated(v);
  const auto& held_dout = evaluated(dout);
  const auto queries = as_attention(held_q);
  const auto keys = as_attention(held_k);
  const auto values = as_attention(held_v);
  const auto gradient = as_attention(held_dout);
  const auto to_q = as_attention(dq);
  const auto to_k = as_attention(dk);
  const auto to_v = as_attention(dv);
  const auto apart = [&](const char* name, const auto& x) {
    return no_attention_overlap(function, name, x, "dq", to_q) && no_attention_overlap(function, name, x, "dk", to_k) &&
           no_attention_overlap(function, name, x, "dv", to_v);
  };
  Task<T> task;
  if (!checked_heads(function, queries, keys, values) || !checked_output(function, queries, values, "dout", gradient) ||
      !checked_gradient(function, "q", queries, "dq", to_q) || !checked_gradient(function, "k", keys, "dk", to_k) ||
      !checked_gradient(function, "v", values, "dv", to_v) ||
      !checked_options(function, options, queries, keys, task) ||
      !checked_gradient_option<T>(function, "key_bias_gradient", options.key_bias_gradient, "batch", queries.batch(),
                                  "kv_len", keys.length()) ||
      !own(task, queries, values, apart) || !apart("q", queries) || !apart("k", keys) || !apart("v", values) ||
      !apart("dout", gradient) || !no_attention_overlap(function, "dq", to_q, "dk", to_k) ||
      !no_attention_overlap(function, "dq", to_q, "dv", to_v) ||
      !no_attention_overlap(function, "dk", to_k, "dv", to_v)) {
    return;
  }
  set_heads(task, queries, keys, values);
  task.dout = heads_of(gradient);
  task.dq = heads_written(to_q);
  task.dk = heads_written(to_k);
  task.dv = heads_written(to_v);
  launch(task);
}

/// The forward's own check of a kind's options, for a task of the backward.
template <template <class> class Forward, class T, class Options, class Q>
bool checked_forward_options(const char* function, const Options& options, const Q& q, attention_task<T>& task) {
  Forward<T> forward;
  static_cast<attention_task<T>&>(forward) = task;
  const bool right = checked_own_options(function, options, q, forward);
  task = forward;
  return right;
}

/// Without what the forward left.
struct nothing_saved {
  template <class Task, class... X>
  bool operator()(const char*, Task&, const X&...) const {
    return true;
  }
};

/// With the forward's out and a number of each query.
template <class Out>
struct saved_results {
  const Out& out;
  const char* name; ///< of the number
  const query_input& number;

  template <class T, class Q, class V, class Apart>
  bool operator()(const char* function, attention_backward_task<T>& task, const Q& queries, const V& values,
                  const Apart& apart) const {
    static_assert(std::is_same_v<attention_compute<const Out>, T>,
                  "xsoftmax: double does not mix with float or halves: all arguments must be computed in one type");
    const auto view = as_attention(out);
    const query_input& x = number;
    if (!checked_output(function, queries, values, "out", view) ||
        !checked_query_numbers<T>(function, name, x, queries) || !apart("out", view) ||
        !apart(name, attention_view<const T>(static_cast<const T*>(x.data()), x.extent(0), x.extent(1), x.extent(2),
                                             x.extent(3), x.stride(0), x.stride(1), x.stride(2), 0))) {
      return false;
    }
    task.saved = true;
    task.saved_out = heads_of(view);
    task.saved_number = {x.data(), x.stride(0), x.stride(1), x.stride(2), 0, storage_format::native};
    return true;
  }
};

/// What is done with the gradients of heads that have nothing to be differentiated by.
struct no_head_gradient {
  constexpr void operator()(std::size_t, double) const {}
};

/// The gradients of what options add, from what the kernels left of each head of keys and of each head.
template <class T, class HeadGradient>
void write_option_gradients(const attention_backward_task<T>& task, const attention_backward_split& split,
                            const gradient_output& key_bias_gradient, const HeadGradient& head_gradient) {
  for (std::size_t b = 0; !key_bias_gradient.empty() && b < task.batch; ++b) {
    for (std::size_t j = 0; j < task.kv_len; ++j) {
      T sum{};
      for (std::size_t h = 0; h < task.kv_heads; ++h) {
        sum += task.key_sums[(b * task.kv_heads + h) * split.blocks * key_block + j];
      }
      set_number(key_bias_gradient, b, j, sum);
    }
  }
  for (std::size_t h = 0; !std::is_same_v<HeadGradient, no_head_gradient> && h < task.heads; ++h) {
    double sum = 0;
    for (std::size_t b = 0; b < task.batch; ++b) {
      const double* const of_unit =
          task.head_sums + (b * task.kv_heads + h / split.group) * split.segments * split.group + h % split.group;
      for (std::size_t s = 0; s < split.segments; ++s) {
        sum += of_unit[s * split.group];
      }
    }
    head_gradient(h, sum);
  }
}

/// Who runs the bodies of a call without an executor: its own thread.
struct this_thread {
  static constexpr bool shares = false;

  template <class Body>
  void run(std::size_t count, const Body& body) const {
    for (std::size_t i = 0; i < count; ++i) {
      body(i);
    }
  }
};

template <class Executor>
struct threads_of {
  static constexpr bool shares = true;
  Executor& executor;

  template <class Body>
  void run(std::size_t count, const Body& body) const {
    executor_traits<std::remove_reference_t<Executor>>::run(executor, count, body);
  }
};

/// launch(task) for parts of it, from the bodies that `threads` run; then head_gradient(h, sum) for each head. Sums are
/// cut where those of one thread are: who runs what leaves no trace in the results.
template <class Arch, class T, class Threads, class Task, class Launch, class HeadGradient>
void run_attention_backward(const char* function, const Threads& threads, std::span<std::byte> given, Task task,
                            const gradient_output& key_bias_gradient, const Launch& launch,
                            const HeadGradient& head_gradient) {
  const attention_backward_split split(task, Threads::shares);
  if (split.units == 0) {
    write_option_gradients<T>(task, split, key_bias_gradient, head_gradient);
    return;
  }
  const attention_backward_split::layout<T> layout(split, task);
  const attention_workspace_room<T> room(function, given, layout.total, layout.total);
  if (!room || !call::ready(Arch{})) {
    return;
  }
  task.tiles_per_segment = split.tiles_per_segment;
  task.segments = split.segments;
  if (!key_bias_gradient.empty()) {
    task.key_sums = room.get() + layout.key_sums;
  }
  if (!std::is_same_v<HeadGradient, no_head_gradient>) {
    task.head_sums = reinterpret_cast<double*>(room.get() + layout.head_sums);
  }
  const auto part_of = [&](std::size_t body, std::size_t first_unit, std::size_t last_unit) {
    Task part = task;
    part.first_unit = first_unit;
    part.last_unit = last_unit;
    part.workspace = room.get() + body * layout.one;
    return part;
  };
  if (!split.by_segments) {
    threads.run(split.bodies, [&](std::size_t body) {
      launch(part_of(body, body * split.units / split.bodies, (body + 1) * split.units / split.bodies));
    });
  }
  for (std::size_t unit = 0; split.by_segments && unit < split.units; ++unit) {
    task.partial = room.get() + layout.partial;
    threads.run(split.segments, [&](std::size_t s) {
      Task part = part_of(s, unit, unit + 1);
      part.first_segment = s;
      part.last_segment = s + 1;
      launch(part);
    });
    threads.run(split.bodies, [&](std::size_t body) {
      Task part = part_of(body, unit, unit + 1);
      part.first_block = body * split.blocks / split.bodies;
      part.last_block = (body + 1) * split.blocks / split.bodies;
      launch(part);
    });
  }
  write_option_gradients<T>(task, split, key_bias_gradient, head_gradient);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail
