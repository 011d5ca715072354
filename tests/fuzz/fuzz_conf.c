/* Any file as a configuration: it is refused with at least one message, or
 * everything that threads rely on holds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/site/conf.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_conf(const struct conf *conf)
{
    const struct conf_mqtt *mqtt = &conf->mqtt;
    check(cfg_is_name(conf->site));
    check(mqtt->host[0] && mqtt->port >= 1 && mqtt->port <= 65535);
    check(mqtt->version == 4 || mqtt->version == 5);
    check(mqtt->qos == 0 || mqtt->qos == 1);
    check(mqtt->keepalive_ns >= CLOCK_NS_PER_S && mqtt->keepalive_ns % CLOCK_NS_PER_S == 0);
    check(mqtt->prefix[0] && !strpbrk(mqtt->prefix, "+#"));
    check(strlen(mqtt->client_id) + 1 + DEVICE_NAME_MAX <= CONF_TEXT_MAX);
    check(mqtt->username[0] || !mqtt->password_file[0]);
    check(mqtt->tls || !(mqtt->ca_file[0] || mqtt->cert_file[0]));
    check(!mqtt->cert_file[0] == !mqtt->key_file[0]);
    check(conf->log_level >= LOG_LEVEL_ERROR && conf->log_level <= LOG_LEVEL_DEBUG);
    check(conf->devices.n_devices > 0 && conf->devices.n_links > 0);
    for (unsigned i = 0; i < conf->devices.n_devices; i++) {
        const struct device *device = &conf->devices.devices[i];
        check(cfg_is_name(device->name) && device->n_points > 0);
        check(device->link < conf->devices.n_links);
        check(device->poller < conf->devices.n_pollers);
        check(!device->modbus.host[0] != !device->modbus.serial[0]);
        check(device->modbus.address >= 0 && device->modbus.address <= 255);
        for (unsigned k = 0; k < device->n_points; k++) /* it may be the broadcast */
            check(device->modbus.address > 0 || !device_may_write(device, k));
        check(device->poll_ns > 0 && device->modbus.timeout_ns > 0);
        if (device->controllable) {
            check(device->control.min_kw <= 0 && device->control.max_kw >= 0);
            check(device->control.soe_min < device->control.soe_max);
            /* Some types tell no status. */
            check(device->control.n_ready > 0 || device->control.status < 0);
            check(device->control.ttl_ns > 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[MEMORY_FILE_PATH];
    int file = memory_file(data, size, path);
    if (file == -1)
        return 0;
    char *said = NULL;
    size_t length = 0;
    struct cfg cfg = {.out = open_memstream(&said, &length)};
    struct conf conf;
    check(cfg.out);
    bool good = conf_read(&cfg, path, &conf);
    fclose(cfg.out);
    check(good == (cfg.problems == 0));
    check((length > 0) == (cfg.problems + cfg.warnings > 0));
    if (good)
        check_conf(&conf);
    conf_free(&conf);
    free(said);
    close(file);
    return 0;
}
