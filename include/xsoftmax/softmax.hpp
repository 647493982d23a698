// SPDX-License-Identifier: MIT
// The softmax family: probabilities, their logarithms, the logarithm of their denominator, and the gradients.
#pragma once

#include <xsoftmax/softmax/backward.hpp>
#include <xsoftmax/softmax/log_softmax.hpp>
#include <xsoftmax/softmax/log_sum_exp.hpp>
#include <xsoftmax/softmax/shard.hpp>
#include <xsoftmax/softmax/softmax.hpp>
