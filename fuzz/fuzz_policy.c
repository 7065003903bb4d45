/* SPDX-License-Identifier: Apache-2.0 */
/* istio.security.Authorization, the WADS resource. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_policy, xds_policy_decode, xds_policy_encode)
