// SPDX-License-Identifier: MIT
// StableMax, its logarithm and the gradients of both.
#pragma once

#include <xsoftmax/stablemax/backward.hpp>
#include <xsoftmax/stablemax/log_stablemax.hpp>
#include <xsoftmax/stablemax/stablemax.hpp>
