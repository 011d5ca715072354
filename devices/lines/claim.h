/* claim: the right to write to one device, held by one program of a machine.
 *
 * Two programs that write setpoints to one battery undo each other's work. A
 * claim is a locked file, named by where the device really is (the address that
 * its link is connected to, not the name in a configuration) and its unit id; it
 * is let go when its holder ends, however that happens. The files lie in
 * /run/fluxbridge, or where that may not be written below XDG_RUNTIME_DIR, or in
 * a directory of this user's own below /tmp: never where anybody else could
 * take a claim first.
 */
#ifndef DEVICES_LINES_CLAIM_H
#define DEVICES_LINES_CLAIM_H

enum { CLAIM_TEXT_MAX = 120 };

/* Takes the claim on unit `unit` at `peer` (struct link), and writes into the
 * file who `who` is. A descriptor to be closed; -1 when somebody else has it:
 * then `holder` says who, or why none can be taken. */
int claim_take(const char *peer, unsigned unit, const char *who, char holder[CLAIM_TEXT_MAX]);

#endif
