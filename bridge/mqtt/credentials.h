/* credentials: the files that a session with the broker needs.
 *
 * Read anew at every attempt, because they may come late (a mount, a rotation) or be
 * replaced: what is missing is waited for, and said.
 */
#ifndef BRIDGE_MQTT_CREDENTIALS_H
#define BRIDGE_MQTT_CREDENTIALS_H

#include "bridge/site/conf.h"

/* Reads the password, "" when there is none. False: a file is missing or cannot be
 * used; `why` names it. */
bool credentials_load(const struct conf_mqtt *conf, char password[CONF_TEXT_MAX + 1], char *why,
                      size_t size);

/* Whether a session could be begun with them now: they are there, and OpenSSL takes them. */
bool credentials_try(const struct conf_mqtt *conf, char *why, size_t size);

#endif
