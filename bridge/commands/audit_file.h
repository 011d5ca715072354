/* audit_file: the file of the audit log: whole lines, on disk before it returns.
 *
 * A file that holds something else is refused and left alone. Everything here may
 * wait for the disk, however long that takes. Functions return 0 or an errno.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_FILE_H
#define BRIDGE_COMMANDS_AUDIT_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Opens or makes it (mode 0640), ready for whole lines; `*file` is -1 after a
 * failure. EEXIST: it is no audit log. */
int audit_file_open(const char *path, int *file);

/* Whether it would be refused as no audit log. Changes nothing. */
bool audit_file_is_foreign(const char *path);

/* Whether it still has a name: lines in a deleted one are lost. */
bool audit_file_is_linked(int file);

/* Whether the file system has room for more. Some do not count blocks; those have. */
bool audit_file_has_room(int file);

/* Whether its file system has so little room that the spool, which lies there too and may grow
 * to `most` bytes, could not do so. "" = there is no spool. */
bool audit_file_is_tight(int file, const char *spool, int64_t most);

/* Writes all of these lines and waits for the disk, or takes back what was written. */
int audit_file_write(int file, const struct iovec *lines, int n);

/* What to do about an errno. */
const char *audit_file_remedy(int error);

/* So much of them is looked at, and held until the subscriber has taken it: ten minutes of 140
 * outcomes a second, an eighth of what the service may take (MemoryMax). */
enum { AUDIT_FILE_PATHS_MAX = 10, AUDIT_FILE_REPLAY_MAX = 32 << 20 };

/* What earlier runs have written: the lines at these paths, and of each those at `path`.1
 * before, oldest path first; of all together the last AUDIT_FILE_REPLAY_MAX bytes. `*lines` is
 * malloc'ed, NULL = none. A file that is not there, is no file or cannot be read has none;
 * but for want of descriptors or memory that is a failure. */
int audit_file_read(const char *const *paths, unsigned n, char **lines);

#endif
