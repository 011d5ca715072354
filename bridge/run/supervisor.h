/* supervisor: the main thread of `fluxbridge run`.
 *
 * Makes every queue and thread in order, waits for signals, watches that every
 * thread keeps its promise to be back, and ends them in the reverse order. A
 * poller that hangs is logged and its devices go offline.
 */
#ifndef BRIDGE_RUN_SUPERVISOR_H
#define BRIDGE_RUN_SUPERVISOR_H

#include "bridge/site/conf.h"

/* Runs until SIGTERM or SIGINT; SIGHUP takes over what has changed in `path`, reopens the
 * audit log and reads certificates anew (bridge/run/reload.h). Returns the exit code. */
int supervisor_run(struct conf *conf, const char *path);

#endif
