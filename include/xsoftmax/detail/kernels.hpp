// SPDX-License-Identifier: MIT
// The kernels that kernels.def lists.
#pragma once

#include <xsoftmax/detail/kernel/gumbel_softmax.hpp>
#include <xsoftmax/detail/kernel/log_gumbel_softmax.hpp>
#include <xsoftmax/detail/kernel/log_softmax.hpp>
#include <xsoftmax/detail/kernel/log_softmax_backward.hpp>
#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/noise.hpp>
#include <xsoftmax/detail/kernel/sample.hpp>
#include <xsoftmax/detail/kernel/sample_many.hpp>
#include <xsoftmax/detail/kernel/sample_truncated.hpp>
#include <xsoftmax/detail/kernel/softmax.hpp>
#include <xsoftmax/detail/kernel/softmax_backward.hpp>
