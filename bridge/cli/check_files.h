/* check_files: what `fluxbridge check` finds wrong with the files, directories and
 * serial devices that a good configuration names.
 *
 * Looks, and opens what the bridge would open; writes nothing.
 */
#ifndef BRIDGE_CLI_CHECK_FILES_H
#define BRIDGE_CLI_CHECK_FILES_H

#include "bridge/site/conf.h"

/* A good configuration, and its file once more for the lines in it. */
struct check {
    struct cfg *cfg;
    const struct conf *conf;
    const struct cfg_setting *file;
};

/* Where a device stands in the file: its group `modbus`. */
const struct cfg_setting *check_place(const struct check *check, unsigned device);

/* Missing directories, files that are none, certificates and keys that are none or
 * do not fit or are out of date, passwords, serial devices: problems. Secrets that
 * all may read, and certificates that end soon: warnings. */
void check_files(const struct check *check);

#endif
