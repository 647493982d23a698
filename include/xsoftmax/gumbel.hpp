// SPDX-License-Identifier: MIT
// The Gumbel family: reproducible noise, the Gumbel-Softmax with its gradients, and draws from softmax(z / T).
#pragma once

#include <xsoftmax/gumbel/conditional.hpp>
#include <xsoftmax/gumbel/density.hpp>
#include <xsoftmax/gumbel/gumbel_softmax.hpp>
#include <xsoftmax/gumbel/noise.hpp>
#include <xsoftmax/gumbel/sample.hpp>
