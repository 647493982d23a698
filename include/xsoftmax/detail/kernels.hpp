// SPDX-License-Identifier: MIT
// The kernels that kernels.def lists.
#pragma once

#include <xsoftmax/detail/kernel/cross_entropy.hpp>
#include <xsoftmax/detail/kernel/gumbel_softmax.hpp>
#include <xsoftmax/detail/kernel/log_gumbel_softmax.hpp>
#include <xsoftmax/detail/kernel/log_softmax.hpp>
#include <xsoftmax/detail/kernel/log_softmax_backward.hpp>
#include <xsoftmax/detail/kernel/log_stablemax.hpp>
#include <xsoftmax/detail/kernel/log_stablemax_backward.hpp>
#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/noise.hpp>
#include <xsoftmax/detail/kernel/partition_function.hpp>
#include <xsoftmax/detail/kernel/perpendicular_gradient.hpp>
#include <xsoftmax/detail/kernel/sample.hpp>
#include <xsoftmax/detail/kernel/sample_many.hpp>
#include <xsoftmax/detail/kernel/sample_truncated.hpp>
#include <xsoftmax/detail/kernel/sigmoid_attention.hpp>
#include <xsoftmax/detail/kernel/sigmoid_attention_backward.hpp>
#include <xsoftmax/detail/kernel/slope_spread.hpp>
#include <xsoftmax/detail/kernel/softmax.hpp>
#include <xsoftmax/detail/kernel/softmax_attention.hpp>
#include <xsoftmax/detail/kernel/softmax_attention_backward.hpp>
#include <xsoftmax/detail/kernel/softmax_backward.hpp>
#include <xsoftmax/detail/kernel/softplus_attention.hpp>
#include <xsoftmax/detail/kernel/softplus_attention_backward.hpp>
#include <xsoftmax/detail/kernel/stablemax.hpp>
#include <xsoftmax/detail/kernel/stablemax_backward.hpp>
