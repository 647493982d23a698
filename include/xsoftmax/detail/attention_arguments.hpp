// SPDX-License-Identifier: MIT
// The door of attention: checks of shapes, overlap and options, the task for the kernels, and how it is shared out.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <xsoftmax/attention/options.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

template <class X>
using attention_compute = compute_type_t<std::remove_const_t<attention_element<X>>>;

/// May these meet in one call? Says why not at compile time.
template <class In, class Out>
consteval void check_attention_types() {
  using InValue = std::remove_const_t<attention_element<std::remove_reference_t<In>>>;
  using OutValue = attention_element<std::remove_reference_t<Out>>;
  static_assert(!std::is_const_v<OutValue>, "xsoftmax: the output's elements are const");
  constexpr bool known = has_storage_format<InValue> && has_storage_format<std::remove_const_t<OutValue>>;
  static_assert(known, "xsoftmax: elements must be float, double or a half type that xsoftmax::storage_traits knows");
  if constexpr (!is_attention_view<std::remove_cvref_t<Out>>) {
    static_assert(std::is_lvalue_reference_v<Out> || refers_to_elements<Out>(),
                  "xsoftmax: the output is a temporary container: its result would be lost");
  }
  if constexpr (known) {
    static_assert(std::is_same_v<compute_type_t<InValue>, compute_type_t<std::remove_const_t<OutValue>>>,
                  "xsoftmax: double does not mix with float or halves: all arguments must be computed in one type");
  }
}

template <class T>
constexpr head_elements<const void> heads_of(const attention_view<T>& x) {
  return {x.data(),          x.batch_stride(), x.head_stride(),
          x.length_stride(), x.depth_stride(), storage_traits<std::remove_const_t<T>>::format};
}

template <class T>
constexpr head_elements<void> heads_written(const attention_view<T>& x) {
  return {x.data(), x.batch_stride(), x.head_stride(), x.length_stride(), x.depth_stride(), storage_traits<T>::format};
}

/// The first and the last byte that a view can touch.
template <class T>
struct byte_range {
  std::intptr_t first;
  std::intptr_t last;

  explicit byte_range(const attention_view<T>& x)
      : first(reinterpret_cast<std::intptr_t>(x.data())), last(first + static_cast<std::intptr_t>(sizeof(T)) - 1) {
    const std::size_t extents[] = {x.batch(), x.heads(), x.length(), x.depth()};
    const std::ptrdiff_t strides[] = {x.batch_stride(), x.head_stride(), x.length_stride(), x.depth_stride()};
    for (int i = 0; i < 4; ++i) {
      const auto reach = static_cast<std::ptrdiff_t>(extents[i] - 1) * strides[i] * std::ptrdiff_t{sizeof(T)};
      (reach < 0 ? first : last) += reach;
    }
  }
};

/// Can `distance` be written as sum of steps_i * stride_i with |steps_i| < extent_i? Dimensions are in the order of
/// falling strides, each wider than all that lie inside of it; elsewhere the caller answers for it.
inline bool reachable(std::size_t distance, const std::size_t* extent, const std::size_t* stride, int dimensions) {
  if (dimensions == 0) {
    return distance == 0;
  }
  const auto rest_reaches = [&](std::size_t steps) {
    if (steps >= *extent) {
      return false;
    }
    const std::size_t reach = steps * *stride;
    return reachable(distance > reach ? distance - reach : reach - distance, extent + 1, stride + 1, dimensions - 1);
  };
  const std::size_t steps = *stride == 0 ? 0 : distance / *stride;
  return rest_reaches(steps) || rest_reaches(steps + 1);
}

/// An output must share no element with an input, nor one of its elements with another. Decided exactly where both have
/// the same strides and extents; elsewhere only that they begin at the same place is sure to be an overlap.
template <class In, class Out>
bool no_attention_overlap(const char* function, const char* in_name, const attention_view<In>& in, const char* out_name,
                          const attention_view<Out>& out) {
  const auto size = [](const auto& x) { return x.batch() * x.heads() * x.length() * x.depth(); };
  if (size(in) == 0 || size(out) == 0) {
    return true;
  }
  const byte_range a(in);
  const byte_range b(out);
  if (a.last < b.first || b.last < a.first) {
    return true;
  }
  bool meet = static_cast<const void*>(in.data()) == static_cast<const void*>(out.data());
  if constexpr (std::is_same_v<std::remove_const_t<In>, Out>) {
    const bool same = in.batch_stride() == out.batch_stride() && in.head_stride() == out.head_stride() &&
                      in.length_stride() == out.length_stride() && in.depth_stride() == out.depth_stride();
    if (same && !meet) {
      const auto magnitude = [](std::ptrdiff_t s) { return static_cast<std::size_t>(s < 0 ? -s : s); };
      const auto larger = [](std::size_t x, std::size_t y) { return x > y ? x : y; };
      std::size_t extent[4] = {larger(in.batch(), out.batch()), larger(in.heads(), out.heads()),
                               larger(in.length(), out.length()), larger(in.depth(), out.depth())};
      std::size_t stride[4] = {magnitude(in.batch_stride()), magnitude(in.head_stride()), magnitude(in.length_stride()),
                               magnitude(in.depth_stride())};
      for (int i = 0; i < 4; ++i) {
        for (int j = i + 1; j < 4; ++j) {
          if (extent[j] > 1 && (extent[i] == 1 || stride[j] > stride[i])) {
            std::swap(stride[i], stride[j]);
            std::swap(extent[i], extent[j]);
          }
        }
      }
      std::size_t inside = 0;
      bool nested = true;
      for (int i = 3; i >= 0; --i) {
        nested = nested && (extent[i] == 1 || stride[i] > inside || stride[i] == 0);
        inside += (extent[i] - 1) * stride[i];
      }
      const std::intptr_t bytes =
          reinterpret_cast<std::intptr_t>(out.data()) - reinterpret_cast<std::intptr_t>(in.data());
      const auto distance = static_cast<std::size_t>((bytes < 0 ? -bytes : bytes) / std::intptr_t{sizeof(Out)});
      meet = nested && reachable(distance, extent, stride, 4);
    }
  }
  if (meet) {
    const auto bytes = reinterpret_cast<std::intptr_t>(out.data()) - reinterpret_cast<std::intptr_t>(in.data());
    raise_mismatch(function, (std::string(out_name) + " must share no element with " + in_name).c_str(),
                   "distance in bytes", bytes, "elements", size(in));
  }
  return !meet;
}

inline bool equal_extents(const char* function, const char* what, const char* a_name, std::size_t a, const char* b_name,
                          std::size_t b) {
  if (a != b) {
    raise_mismatch(function, what, a_name, a, b_name, b);
  }
  return a == b;
}

/// Shapes of q, k and v.
template <class Q, class K, class V>
bool checked_heads(const char* function, const attention_view<Q>& q, const attention_view<K>& k,
                   const attention_view<V>& v) {
  if (!equal_extents(function, "the arguments differ in their batch", "q", q.batch(), "k", k.batch()) ||
      !equal_extents(function, "the arguments differ in their batch", "k", k.batch(), "v", v.batch()) ||
      !equal_extents(function, "keys and values differ in their heads", "k", k.heads(), "v", v.heads()) ||
      !equal_extents(function, "keys and values differ in their length", "k", k.length(), "v", v.length()) ||
      !equal_extents(function, "queries and keys differ in their depth", "q", q.depth(), "k", k.depth())) {
    return false;
  }
  if (q.heads() != 0 && (k.heads() == 0 || q.heads() % k.heads() != 0)) {
    raise_mismatch(function, "the heads of the queries must be a multiple of those of the keys", "q", q.heads(), "k",
                   k.heads());
    return false;
  }
  return true;
}

/// The shape of something that is laid out as the queries are, with values' depth: the output or its gradient.
template <class Q, class V, class O>
bool checked_output(const char* function, const attention_view<Q>& q, const attention_view<V>& v, const char* name,
                    const attention_view<O>& out) {
  return equal_extents(function, "the arguments differ in their batch", "q", q.batch(), name, out.batch()) &&
         equal_extents(function, "the arguments differ in their heads", "q", q.heads(), name, out.heads()) &&
         equal_extents(function, "the arguments differ in their length", "q", q.length(), name, out.length()) &&
         equal_extents(function, "the arguments differ in their depth", "v", v.depth(), name, out.depth());
}

inline option_array array_of(const option_numbers& x) {
  option_array a{.data = x.data, .kind = static_cast<unsigned char>(x.kind)};
  for (int i = 0; i < 4; ++i) {
    a.stride[i] = x.stride[i];
  }
  return a;
}

/// One number per head.
inline bool checked_heads_option(const char* function, const char* name, const number_view& option, std::size_t heads,
                                 option_array& to) {
  if (option.empty()) {
    return true;
  }
  const option_numbers& x = option.numbers();
  if (!equal_extents(function, "there must be one number per head", name, x.extent[0] * x.extent[1], "heads", heads)) {
    return false;
  }
  to = array_of(x);
  to.stride[1] = x.extent[0] == 1 ? x.stride[1] : x.stride[0];
  return true;
}

/// Are these numbers of the type that is computed in, and as many as queries?
template <class T, class Q, class Void>
bool checked_query_numbers(const char* function, const char* name, const number_array<Void>& x,
                           const attention_view<Q>& q) {
  if (x.kind() != kind_of<T>()) {
    raise_mismatch(function, "the numbers of queries must be of the type that is computed in", name,
                   x.kind() == number_kind::float64 ? sizeof(double) : sizeof(float), "bytes computed in", sizeof(T));
    return false;
  }
  const std::size_t extent[4] = {q.batch(), q.heads(), q.length(), 1};
  const char* const extent_name[4] = {"batch", "heads", "q_len", "depth"};
  for (int i = 0; i < 4; ++i) {
    if (!equal_extents(function, "there must be a number for each query, [batch, heads, q_len, 1]", name, x.extent(i),
                       extent_name[i], extent[i])) {
      return false;
    }
  }
  return true;
}

/// An option with a number for each query, if it is given.
template <class T, class Q, class Void>
bool checked_query_option(const char* function, const char* name, const number_array<Void>& x,
                          const attention_view<Q>& q, head_elements<Void>& to) {
  if (x.empty()) {
    return true;
  }
  if (!checked_query_numbers<T>(function, name, x, q)) {
    return false;
  }
  to = {x.data(), x.stride(0), x.stride(1), x.stride(2), 0, storage_format::native};
  return true;
}

/// Options that all kinds have. Q is [batch, heads, q_len, depth].
template <class T, class Options, class Q, class K>
bool checked_options(const char* function, const Options& options, const attention_view<Q>& q,
                     const attention_view<K>& k, attention_task<T>& task) {
  task.scale = std::numeric_limits<double>::quiet_NaN();
  if (options.scale) {
    task.scale = *options.scale;
    if (!std::isfinite(task.scale)) {
      raise_out_of_range(function, "the scale must be finite", "scale", task.scale);
      return false;
    }
  }
  task.diagonal_by_length = options.alignment == causal_alignment::key_lengths;
  task.diagonal = options.alignment == causal_alignment::top_left
                      ? 0
                      : static_cast<std::ptrdiff_t>(k.length()) - static_cast<std::ptrdiff_t>(q.length());
  task.bounded_left = options.window_left.has_value();
  task.window_left = options.window_left.value_or(0);
  task.bounded_right = options.causal || options.window_right.has_value();
  task.window_right = options.causal ? 0 : options.window_right.value_or(0);
  if (!options.key_lengths.empty()) {
    if (!equal_extents(function, "there must be one length per entry of the batch", "key_lengths",
                       options.key_lengths.size(), "batch", q.batch())) {
      return false;
    }
    task.key_lengths = {options.key_lengths.data(), static_cast<unsigned char>(options.key_lengths.bytes()),
                        options.key_lengths.is_signed()};
  }
  if (!options.mask.empty()) {
    const option_numbers& m = options.mask.numbers();
    const std::size_t extent[4] = {q.batch(), q.heads(), q.length(), k.length()};
    const char* const name[4] = {"batch", "heads", "q_len", "kv_len"};
    for (int i = 0; i < 4; ++i) {
      if (m.extent[i] != 1 && !equal_extents(function, "the mask must be [batch, heads, q_len, kv_len], 1 for any",
                                             "mask", m.extent[i], name[i], extent[i])) {
        return false;
      }
    }
    task.mask = array_of(m);
  }
  if (!options.key_bias.empty()) {
    const option_numbers& b = options.key_bias.numbers();
    if ((b.extent[0] != 1 && !equal_extents(function, "key_bias must be [batch, kv_len], 1 for any batch", "key_bias",
                                            b.extent[0], "batch", q.batch())) ||
        !equal_extents(function, "key_bias must have a number per key", "key_bias", b.extent[1], "kv_len",
                       k.length())) {
      return false;
    }
    task.key_bias = array_of(b);
    task.key_bias.stride[0] = b.extent[0] == 1 ? 0 : b.stride[0];
    task.key_bias.stride[3] = b.stride[1];
    task.key_bias.stride[1] = 0;
  }
  return checked_heads_option(function, "alibi_slopes", options.alibi_slopes, q.heads(), task.alibi_slopes);
}

/// The task of q, k and v.
template <class T, class Q, class K, class V>
void set_heads(attention_task<T>& task, const attention_view<Q>& q, const attention_view<K>& k,
               const attention_view<V>& v) {
  task.q = heads_of(q);
  task.k = heads_of(k);
  task.v = heads_of(v);
  task.batch = q.batch();
  task.heads = q.heads();
  task.kv_heads = k.heads();
  task.q_len = q.length();
  task.kv_len = k.length();
  task.depth = q.depth();
  task.value_depth = v.depth();
}

/// Checks what all kinds of attention have, then has own(task, queries) check and set the rest, and hands launch(task)
/// what is to be done.
template <template <class> class Task, class Q, class K, class V, class Out, class Options, class Own, class Launch>
void checked_attention(const char* function, const Q& q, const K& k, const V& v, Out&& out, const Options& options,
                       const Own& own, const Launch& launch) {
  check_attention_types<const Q, Out>();
  check_attention_types<const K, Out>();
  check_attention_types<const V, Out>();
  using T = attention_compute<const Q>;
  const auto& held_q = evaluated(q);
  const auto& held_k = evaluated(k);
  const auto& held_v = evaluated(v);
  const auto queries = as_attention(held_q);
  const auto keys = as_attention(held_k);
  const auto values = as_attention(held_v);
  const auto output = as_attention(out);
  Task<T> task;
  if (!checked_heads(function, queries, keys, values) || !checked_output(function, queries, values, "out", output) ||
      !checked_options(function, options, queries, keys, task) || !own(task, queries) ||
      !no_attention_overlap(function, "q", queries, "out", output) ||
      !no_attention_overlap(function, "k", keys, "out", output) ||
      !no_attention_overlap(function, "v", values, "out", output)) {
    return;
  }
  set_heads(task, queries, keys, values);
  task.out = heads_written(output);
  launch(task);
}

/// How the queries are cut into units, and units into bodies.
struct attention_split {
  static constexpr std::size_t most = 64;
  static constexpr std::size_t few_units = 16; ///< with fewer, tiles are made smaller, and then keys are split
  static constexpr std::size_t step = 6;
  static constexpr std::size_t few_rows = 8 * step;     ///< of the smallest tiles
  static constexpr std::size_t shared_rows = 42 * step; ///< of the largest, where there may be one for each body

  // Of tiles that keep the terms of all keys between two sweeps.
  static constexpr std::size_t most_kept_rows = 24 * step;
  static constexpr std::size_t fewest_kept_rows = 4 * step;
  static constexpr std::size_t most_kept = 65536; ///< terms beyond what the room for the largest tile holds

  std::size_t rows_per_tile = 0;
  std::size_t units = 0;
  std::size_t bodies = 1;
  std::size_t segments = 1;
  std::size_t segments_per_part = 1;
  std::size_t parts = 1; ///< of the keys
  std::size_t rows = 0;  ///< that share a head of keys
  std::size_t kept = 0;  ///< terms beyond that room, at most
  bool keeps_terms = false;
  bool sums_seen = false; ///< the sums of a row are twice as wide
  bool shared = false;

  template <class T>
  attention_split(const attention_task<T>& task, bool with_executor)
      : sums_seen(sums_seen_values(task)), shared(with_executor) {
    const std::size_t pairs = task.batch * task.kv_heads;
    rows = task.kv_heads == 0 ? 0 : task.heads / task.kv_heads * task.q_len;
    if (pairs == 0 || rows == 0) {
      return;
    }
    const bool worthwhile =
        shared && pairs * rows * (task.kv_len + 1) * (task.depth + task.value_depth + 1) > (1u << 20);
    const std::size_t most_rows = shared ? shared_rows : most_query_rows;
    cut(pairs, most_rows, worthwhile);
    bodies = worthwhile ? smaller(units, most) : 1;
    kept = smaller(smaller(rows, most_kept_rows) * padded_keys(task.kv_len), most_kept);
    if (sums_seen) {
      cut(pairs, most_rows / 2, worthwhile);
      bodies = bodies == 1 ? 1 : smaller(units, at_once());
    }
    if (task.reweight_power != 0) {
      keep_terms(task, pairs);
    }
    segments = quotient_up(task.kv_len, key_segment);
    if (worthwhile && units < few_units && rows_per_tile <= few_rows && segments > 1) {
      const std::size_t wanted = quotient_up(few_units, units);
      segments_per_part = quotient_up(segments, wanted);
      parts = quotient_up(segments, segments_per_part);
    }
  }

  attention_room room(std::size_t depth, std::size_t value_depth) const {
    return attention_room(rows_per_tile, depth, value_depth, sums_seen);
  }

  /// Of a body.
  std::size_t elements(std::size_t depth, std::size_t value_depth, std::size_t keys) const {
    return room(depth, value_depth).total() + (keeps_terms ? rows_per_tile * padded_keys(keys) : 0);
  }

  /// Elements that suffice for all of it, room for every body and for partial sums, and for any smaller problem.
  std::size_t workspace(std::size_t depth, std::size_t value_depth, bool with_terms) const {
    const std::size_t one = largest(depth, value_depth) + (with_terms ? kept : 0);
    if (!shared) {
      return one + attention_room::line;
    }
    const attention_room small(smaller(rows, few_rows), depth, value_depth, true);
    return at_once() * one + few_units * segments * small.partial() + attention_room::line;
  }

private:
  static std::size_t quotient_up(std::size_t a, std::size_t b) { return a / b + (a % b != 0 ? 1 : 0); }

  static std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

  static std::size_t padded_keys(std::size_t keys) { return quotient_up(keys, key_block) * key_block; }

  /// Tiles of at most so many rows.
  void cut(std::size_t pairs, std::size_t most_rows, bool worthwhile) {
    std::size_t tiles = quotient_up(rows, most_rows);
    if (worthwhile && pairs * tiles < few_units) {
      tiles = smaller(quotient_up(few_units, pairs), quotient_up(rows, few_rows));
    }
    rows_per_tile = smaller(quotient_up(quotient_up(rows, tiles), step) * step, rows);
    units = pairs * quotient_up(rows, rows_per_tile);
  }

  /// Bodies that there is room for; units * parts is below.
  std::size_t at_once() const { return bodies > 2 * few_units ? bodies : 2 * few_units; }

  /// Of a body whose tiles are as large as can be, with wide sums half as large.
  std::size_t largest(std::size_t depth, std::size_t value_depth) const {
    const std::size_t most_rows = shared ? shared_rows : most_query_rows;
    const std::size_t plain = attention_room(smaller(rows, most_rows), depth, value_depth, false).total();
    const std::size_t wide = attention_room(smaller(rows, most_rows / 2), depth, value_depth, true).total();
    return plain > wide ? plain : wide;
  }

  /// Smaller tiles, where those leave room for the terms of all keys.
  template <class T>
  void keep_terms(const attention_task<T>& task, std::size_t pairs) {
    for (std::size_t less = 0; less <= most_kept_rows - fewest_kept_rows; less += step) {
      const std::size_t r = smaller(rows_per_tile, most_kept_rows - less);
      const std::size_t needed =
          attention_room(r, task.depth, task.value_depth, false).total() + r * padded_keys(task.kv_len);
      if (needed <= largest(task.depth, task.value_depth) + kept) {
        keeps_terms = true;
        rows_per_tile = r;
        units = pairs * quotient_up(rows, r);
        bodies = bodies == 1 ? 1 : smaller(units, at_once());
        return;
      }
    }
  }
};

/// Bytes of the elements(task) that a call with these arguments needs.
template <class Q, class K, class V, class Elements>
std::size_t workspace_bytes(const char* function, const Q& q, const K& k, const V& v, const Elements& elements) {
  using T = attention_compute<const Q>;
  const auto& held_q = evaluated(q);
  const auto& held_k = evaluated(k);
  const auto& held_v = evaluated(v);
  const auto queries = as_attention(held_q);
  const auto keys = as_attention(held_k);
  const auto values = as_attention(held_v);
  if (!checked_heads(function, queries, keys, values)) {
    return 0;
  }
  attention_task<T> task;
  set_heads(task, queries, keys, values);
  return elements(task) * sizeof(T);
}

/// Room that the caller gave, of `elements` at least, or of the call's own, of what it really needs.
template <class T>
class attention_workspace_room {
public:
  attention_workspace_room(const char* function, std::span<std::byte> given, std::size_t elements, std::size_t needed) {
    const std::size_t bytes = elements * sizeof(T);
    if (given.data() == nullptr) {
      own_.reset(static_cast<std::byte*>(::operator new(needed * sizeof(T))));
      given = {own_.get(), needed * sizeof(T)};
    } else if (given.size() < bytes) {
      raise_mismatch(function, "the workspace is too small; attention_workspace() says how much is needed", "workspace",
                     given.size(), "bytes needed", bytes);
      return;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(given.data());
    first_ = reinterpret_cast<T*>((address + line - 1) / line * line);
  }

  explicit operator bool() const { return first_ != nullptr; }

  T* get() const { return first_; }

private:
  static constexpr std::uintptr_t line = attention_room::line * sizeof(T);

  struct release {
    void operator()(std::byte* p) const { ::operator delete(p); }
  };

  std::unique_ptr<std::byte, release> own_;
  T* first_ = nullptr;
};

/// launch(task) on the calling thread.
template <class T, class Task, class Launch>
void run_attention(const char* function, std::span<std::byte> given, Task task, const Launch& launch) {
  const attention_split split(task, false);
  if (split.units == 0) {
    return;
  }
  const attention_workspace_room<T> room(function, given, split.workspace(task.depth, task.value_depth, true),
                                         split.workspace(task.depth, task.value_depth, split.keeps_terms));
  if (!room) {
    return;
  }
  task.rows_per_tile = split.rows_per_tile;
  task.keeps_terms = split.keeps_terms;
  task.last_unit = split.units;
  task.workspace = room.get();
  launch(task);
}

/// launch(task) for parts of it, from the bodies that the executor runs. Queries depend on nothing but themselves and
/// keys are split where sums are: it leaves no trace in the results.
template <class Arch, class T, bool CanSplitKeys, class Executor, class Task, class Launch>
void run_attention(const char* function, Executor& executor, std::span<std::byte> given, Task task,
                   const Launch& launch) {
  attention_split split(task, true);
  if (!CanSplitKeys) {
    split.parts = 1;
  }
  if (split.units == 0) {
    return;
  }
  const attention_workspace_room<T> room(function, given, split.workspace(task.depth, task.value_depth, true),
                                         split.workspace(task.depth, task.value_depth, split.keeps_terms));
  if (!room || !call::ready(Arch{})) {
    return;
  }
  const std::size_t one = split.elements(task.depth, task.value_depth, task.kv_len);
  task.rows_per_tile = split.rows_per_tile;
  task.keeps_terms = split.keeps_terms;
  const auto run_units = [&](std::size_t first, std::size_t last, std::size_t body) {
    Task part = task;
    part.first_unit = first;
    part.last_unit = last;
    part.workspace = room.get() + body * one;
    launch(part);
  };
  const auto run = [&](std::size_t count, const auto& body) {
    executor_traits<std::remove_reference_t<Executor>>::run(executor, count, body);
  };
  if (split.parts > 1) {
    task.partial = room.get() + split.units * split.parts * one;
    run(split.units * split.parts, [&](std::size_t body) {
      Task part = task;
      part.first_unit = body / split.parts;
      part.last_unit = part.first_unit + 1;
      part.first_segment = body % split.parts * split.segments_per_part;
      part.last_segment = part.first_segment + split.segments_per_part;
      part.last_segment = part.last_segment < split.segments ? part.last_segment : split.segments;
      part.workspace = room.get() + body * one;
      launch(part);
    });
    run_units(0, split.units, 0);
  } else if (split.bodies <= 1) {
    run_units(0, split.units, 0);
  } else {
    run(split.bodies, [&](std::size_t body) {
      run_units(body * split.units / split.bodies, (body + 1) * split.units / split.bodies, body);
    });
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail
