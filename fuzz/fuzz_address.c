/* SPDX-License-Identifier: Apache-2.0 */
/* istio.workload.Address, the WDS resource. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_address, xds_address_decode, xds_address_encode)
