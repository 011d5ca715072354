/* certificate: until when the certificates of the session with the broker are good.
 *
 * The MQTT library shows nobody the broker's certificate. But it asks OpenSSL whether it
 * is for the host that was meant, so this module has the program's X509_check_host():
 * it looks when the certificate ends, and goes on to OpenSSL's.
 */
#ifndef BRIDGE_MQTT_CERTIFICATE_H
#define BRIDGE_MQTT_CERTIFICATE_H

#include "bridge/site/conf.h"

/* When the first of them ends: ours, in its file, or the broker's that was seen last. UTC
 * in ms; 0 = none is known, as without TLS. */
int64_t certificate_end_ms(const struct conf_mqtt *conf);

#endif
