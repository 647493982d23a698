// SPDX-License-Identifier: MIT
// Cross-entropy that does not collapse, and what shows and avoids the collapse.
#pragma once

#include <xsoftmax/cross_entropy/collapse.hpp>
#include <xsoftmax/cross_entropy/cross_entropy.hpp>
#include <xsoftmax/cross_entropy/perpendicular_gradient.hpp>
