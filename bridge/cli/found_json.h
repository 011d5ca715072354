/* found_json: what `points` and `scan` print, for machines.
 *
 * One JSON object each on standard output. False when out of memory.
 */
#ifndef BRIDGE_CLI_FOUND_JSON_H
#define BRIDGE_CLI_FOUND_JSON_H

#include "bridge/cli/survey.h"

/* {"type","manufacturer","model","points":[{"name","address","table",...}]}; a member
 * that a point does not have is left out. */
bool found_json_points(const struct profile *profile);

/* {"whole","found":[{"host","port" or "serial","unit","type","good","of"}]}: unit is
 * null where none answers, type where none fits. `whole`: all was looked at. */
bool found_json_scan(const struct survey_setup *setup, const struct finding *findings, unsigned n,
                     bool whole);

#endif
