/* claim: the right to write to one device, held by one program of a machine.
 *
 * Two programs that write setpoints to one battery undo each other's work. A
 * claim is a locked file, named by where the device really is (the address that
 * its link is connected to, not the name in a configuration) and its unit id; it
 * is let go when its holder ends, however that happens. One whose file is removed meanwhile
 * is taken anew at the next look, unless somebody else was quicker. The files lie in
 * /run/fluxbridge, or where that may not be written below XDG_RUNTIME_DIR, or in
 * a directory of this user's own below /tmp: never where anybody else could
 * take a claim first.
 */
#ifndef DEVICES_LINES_CLAIM_H
#define DEVICES_LINES_CLAIM_H

#include <stdbool.h>

enum { CLAIM_TEXT_MAX = 120, CLAIM_PEER_MAX = 80 };

struct claim {
    int file; /* locked; -1 = not held */
    char peer[CLAIM_PEER_MAX];
    char who[CLAIM_TEXT_MAX]; /* as it is in the file */
    bool denied;              /* somebody else had it when it was last wanted */
};

void claim_init(struct claim *claim);
void claim_release(struct claim *claim);

/* Whether the claim on unit `unit` at `peer` (struct link) is held: takes it when
 * nobody has it, and lets go of another that was held before. The file says who
 * `who` is, also when that is another than before. False: `holder` says who has it, or why none can
 * be taken. */
bool claim_hold(struct claim *claim, const char *peer, unsigned unit, const char *who,
                char holder[CLAIM_TEXT_MAX]);

#endif
