/* SPDX-License-Identifier: Apache-2.0 */
/* DeltaDiscoveryResponse, from a control plane. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_delta_response, xds_delta_response_decode, xds_delta_response_encode)
