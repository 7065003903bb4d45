/* SPDX-License-Identifier: Apache-2.0 */
/* A bare istio.workload.Workload. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_workload, xds_workload_decode, xds_workload_encode)
