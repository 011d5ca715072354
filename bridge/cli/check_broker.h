/* check_broker: what `fluxbridge check --online` finds wrong with the broker.
 *
 * Logs in as the bridge does, with its own client id where no bridge is in session, and
 * else under another; subscribes to commands; and, where no bridge is in session,
 * publishes the retained `offline` that is true then, and sees it come back. No
 * subscriber sees anything new.
 */
#ifndef BRIDGE_CLI_CHECK_BROKER_H
#define BRIDGE_CLI_CHECK_BROKER_H

#include "bridge/cli/check_files.h"

/* A login, subscription or message that is refused is a problem, each with its cause. */
void check_broker(const struct check *check);

#endif
