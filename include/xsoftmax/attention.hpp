// SPDX-License-Identifier: MIT
// Attention: softmax, sigmoid and softplus, and their gradients.
#pragma once

#include <xsoftmax/attention/backward_workspace.hpp>
#include <xsoftmax/attention/options.hpp>
#include <xsoftmax/attention/sigmoid_attention.hpp>
#include <xsoftmax/attention/sigmoid_attention_backward.hpp>
#include <xsoftmax/attention/softmax_attention.hpp>
#include <xsoftmax/attention/softmax_attention_backward.hpp>
#include <xsoftmax/attention/softplus_attention.hpp>
#include <xsoftmax/attention/softplus_attention_backward.hpp>
#include <xsoftmax/attention/view.hpp>
#include <xsoftmax/attention/workspace.hpp>
