#include "bridge/battery/sequence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/battery/interlock.h"
#include "bridge/battery/scripted.h"
#include "bridge/battery/written.h"
#include "devices/registers/codec.h"
#include "devices/registers/plausible.h"
#include "devices/registers/scan.h"

enum stage {
    STAGE_NONE,
    STAGE_LOOK,        /* what the setpoint holds, for an outcome that was unknown */
    STAGE_STATE,       /* what the interlocks judge */
    STAGE_SOURCE,      /* command_source is written */
    STAGE_SOURCE_BACK, /* and read back */
    STAGE_STATE_AGAIN, /* that may have taken a while: judged once more */
    STAGE_WRITE,
    STAGE_BACK,
    STAGE_SCRIPT, /* what takes more than one write, and its reading back */
    STAGE_ENDED
};

struct sequence {
    const struct device *device;
    struct plan *plan; /* the points that the interlocks judge; NULL: none */
    struct value *values;
    struct scan scan;
    enum stage stage;
    bool scanning, once_more;
    bool was_open; /* the link, when the scan began */
    bool judge_only;
    bool source_written; /* a register has been */
    bool scripts;        /* a script has begun */
    struct scripted scripted;
    enum fault fault; /* of the last transaction, or of opening the link for it */
    struct written target, source;
    bool looked;
    struct value held;
    int64_t silence_ns;
    struct outcome *outcome;
};

/* What a driver has to know of the state, beside what the rules judge. */
static void want_driven(const struct device *device, bool *wanted)
{
    const struct drive *drive = &device->profile->drive;
    const struct drive_list *lists[] = {&drive->engage, &drive->set};
    for (unsigned k = 0; k < sizeof(lists) / sizeof(*lists); k++)
        for (unsigned i = 0; i < lists[k]->n; i++)
            if (lists[k]->writes[i].of >= 0)
                wanted[lists[k]->writes[i].of] = true;
    for (unsigned i = 0; i < drive->set.n; i++)
        wanted[drive->set.writes[i].point] = true;
    for (unsigned i = 0; i < drive->n_proofs; i++)
        wanted[drive->proofs[i]] = true;
    if (drive->beat >= 0)
        wanted[drive->beat] = true;
    if (drive->timeout >= 0)
        wanted[drive->timeout] = true;
    wanted[drive->setpoint] = true;
}

struct sequence *sequence_new(const struct device *device, struct driver *driver)
{
    const struct device_control *control = &device->control;
    bool wanted[PROFILE_POINTS_MAX] = {false};
    struct sequence *sequence = calloc(1, sizeof(*sequence));
    if (sequence == NULL)
        return NULL;
    sequence->device = device;
    sequence->scripted.driver = driver;
    if (!device->controllable)
        return sequence;
    if (driver != NULL)
        want_driven(device, wanted);
    if (control->status >= 0)
        wanted[control->status] = true;
    wanted[control->soe] = true;
    if (interlock_needs_blocks(control))
        wanted[control->blocks] = true;
    if (interlock_needs_setpoint(control))
        wanted[control->setpoint] = true;
    sequence->plan = plan_new(device, wanted);
    sequence->values = calloc(device->n_points, sizeof(*sequence->values));
    if (sequence->plan == NULL || sequence->values == NULL) {
        sequence_free(sequence);
        return NULL;
    }
    return sequence;
}

void sequence_free(struct sequence *sequence)
{
    if (sequence == NULL)
        return;
    plan_free(sequence->plan);
    free(sequence->values);
    free(sequence);
}

/* ---- how it ends ---- */

static void end(struct sequence *sequence, enum outcome_kind kind)
{
    sequence->outcome->kind = kind;
    sequence->stage = STAGE_ENDED;
}

/* Ends with an outcome whose reason is a fault of the link or the device. */
static void end_with_fault(struct sequence *sequence, enum outcome_kind kind, enum fault fault,
                           const char *what, const char *why)
{
    struct outcome *outcome = sequence->outcome;
    outcome->fault = fault;
    (void)snprintf(outcome->detail, DETAIL_MAX, "%s%s", what, why);
    end(sequence, kind);
}

void sequence_refuse(struct sequence *sequence, enum reason reason, const char *detail)
{
    struct outcome *outcome = sequence->outcome;
    outcome->reason = reason;
    if (detail != outcome->detail)
        (void)snprintf(outcome->detail, DETAIL_MAX, "%s", detail);
    end(sequence, sequence_has_written(sequence) ? OUTCOME_FAILED : OUTCOME_REFUSED);
}

static void refuse_offline(struct sequence *sequence, const struct link *link, enum fault fault)
{
    char detail[DETAIL_MAX];
    (void)snprintf(detail, sizeof(detail), "%s: %s", fault_word(fault), link->error);
    sequence_refuse(sequence, REASON_DEVICE_OFFLINE, detail);
}

/* ---- the state ---- */

static struct interlock_point judged_point(const struct sequence *sequence, int index)
{
    if (index < 0)
        return (struct interlock_point){.known = false};
    const struct value *value = &sequence->values[index];
    return (struct interlock_point){
        .known = value->state == VALUE_READ,
        .raw = (int64_t)value->raw,
        .number = value->number,
    };
}

/* What is not believable is no state: the same as for a sample, but for what
 * only shows from one poll to the next. */
static void doubt(struct sequence *sequence)
{
    for (unsigned i = 0; i < sequence->device->n_points; i++) {
        struct plausible fresh = {.known = false};
        plausible_check(&sequence->device->points[i], &fresh, &sequence->values[i]);
    }
}

/* Which point keeps the rules from judging, and why. */
static void explain_unknown(const struct sequence *sequence, char detail[DETAIL_MAX])
{
    const struct device_control *control = &sequence->device->control;
    const int points[] = {control->status, control->soe, control->blocks, control->setpoint};
    for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
        const struct value *value = points[i] < 0 ? NULL : &sequence->values[points[i]];
        if (value == NULL || value->state != VALUE_FAULT)
            continue;
        (void)snprintf(detail, DETAIL_MAX, "%s could not be read: %s",
                       sequence->device->points[points[i]].name,
                       fault_word((enum fault)value->fault));
        return;
    }
    (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is no state of energy",
                   sequence->values[control->soe].number);
}

/* Begins to write, unless that cannot be. */
static void begin_script(struct sequence *sequence, enum scripted_kind kind,
                         const struct value *values)
{
    struct outcome *outcome = sequence->outcome;
    const struct point *misfit = scripted_begin(&sequence->scripted, kind, values, outcome);
    if (misfit != NULL) {
        (void)snprintf(outcome->detail, DETAIL_MAX,
                       "%s cannot hold what %g kW is: it is finer or larger, or what it is a part "
                       "of is not known",
                       misfit->name, outcome->command.value);
        sequence_refuse(sequence, REASON_OFF_STEP, outcome->detail);
    } else if (driver_state(sequence->scripted.driver) == CONTROL_LOST &&
               (outcome->command.author == AUTHOR_DEADMAN ||
                outcome->command.author == AUTHOR_EXIT)) {
        end(sequence, OUTCOME_SUPERSEDED); /* what it was for is held no more */
    } else if (sequence->judge_only) {
        end(sequence, OUTCOME_REFUSED);
    } else {
        sequence->scripts = true;
        sequence->stage = STAGE_SCRIPT;
    }
}

/* The state is read: decides. */
static void judge(struct sequence *sequence)
{
    const struct device_control *control = &sequence->device->control;
    struct outcome *outcome = sequence->outcome;
    const double value_kw = outcome->command.value;
    doubt(sequence);
    const struct interlock_state state = {
        .status = judged_point(sequence, control->status),
        .soe = judged_point(sequence, control->soe),
        .blocks = judged_point(sequence, control->blocks),
        .setpoint = judged_point(sequence, control->setpoint),
    };
    if (sequence->scripted.driver != NULL) {
        sequence->held = sequence->values[control->setpoint];
        sequence->looked = sequence->held.state == VALUE_READ;
    }
    enum reason reason = interlock_judge(control, value_kw, &state);
    if (reason == REASON_STATE_UNKNOWN)
        explain_unknown(sequence, outcome->detail);
    else
        interlock_explain(reason, control, value_kw, &state, outcome->detail);
    if (reason != REASON_NONE) {
        sequence_refuse(sequence, reason, outcome->detail);
        return;
    }
    outcome->judged_ns = clock_mono_ns();
    if (sequence->scripted.driver != NULL)
        begin_script(sequence, SCRIPTED_SETPOINT, sequence->values);
    else if (sequence->judge_only)
        end(sequence, OUTCOME_REFUSED);
    else if (sequence->stage == STAGE_STATE && control->command_source >= 0)
        sequence->stage = STAGE_SOURCE;
    else
        sequence->stage = STAGE_WRITE;
}

/* One transaction of reading the state. A connection that had died unnoticed is
 * opened once more: reading twice harms nobody. */
static void read_state(struct sequence *sequence, struct link *link)
{
    struct scan *scan = &sequence->scan;
    enum scan_step step = SCAN_BROKEN;
    if (!sequence->scanning)
        sequence->was_open = link->is_open;
    enum fault fault = link_open(link, sequence->device->modbus.timeout_ns);
    if (fault == FAULT_NONE) {
        if (!sequence->scanning)
            scan_begin(scan, sequence->plan, sequence->device, 0, sequence->values);
        sequence->scanning = true;
        const unsigned silent = scan->silent;
        step = scan_step(scan, link, &fault);
        if (step == SCAN_MORE && scan->silent != silent)
            fault = scan->silence;
    }
    sequence->fault = fault;
    if (step == SCAN_MORE)
        return;
    sequence->scanning = false;
    if (step == SCAN_BROKEN && sequence->was_open && fault == FAULT_CONNECTION &&
        !sequence->once_more)
        sequence->once_more = true; /* from its beginning, on a new connection */
    else if (step == SCAN_BROKEN)
        refuse_offline(sequence, link, fault);
    else
        judge(sequence);
}

/* ---- writing and reading back ---- */

/* Opens the link unless it is open and sound. */
static bool is_reached(struct sequence *sequence, struct link *link)
{
    sequence->fault = link_open(link, sequence->device->modbus.timeout_ns);
    return sequence->fault == FAULT_NONE;
}

/* Whether the device plainly says no. Of all else the register tells. */
static bool is_refused(enum fault fault)
{
    return fault != FAULT_NONE && !fault_is_silence(fault) && fault != FAULT_ACKNOWLEDGE;
}

static bool read_back(struct sequence *sequence, struct link *link, struct written *written,
                      bool *over)
{
    return written_read_back(written, sequence->device, link, &sequence->fault, over);
}

static void note_readback(struct outcome *outcome, const struct written *written)
{
    outcome->has_readback = written->is_read;
    outcome->readback = codec_decimal(written->row, written->value.number);
}

/* What is known of the write when no read-back has agreed. */
static void end_unsettled(struct sequence *sequence)
{
    const struct written *target = &sequence->target;
    struct outcome *outcome = sequence->outcome;
    note_readback(outcome, target);
    if (!target->is_read)
        end(sequence, OUTCOME_UNKNOWN);
    else
        end(sequence, fault_is_exception(target->fault) ? OUTCOME_FAILED : OUTCOME_MISMATCH);
    if (target->fault != FAULT_NONE)
        (void)snprintf(outcome->detail, DETAIL_MAX, "the reply to the write: %s",
                       fault_word(target->fault));
    else if (!target->is_read)
        (void)snprintf(outcome->detail, DETAIL_MAX, "written, but it could not be read back");
}

static void write_target(struct sequence *sequence, struct link *link)
{
    struct outcome *outcome = sequence->outcome;
    struct written *target = &sequence->target;
    const bool was_open = link->is_open;
    if (!was_open && !is_reached(sequence, link)) {
        if (outcome->command.stop)
            end_with_fault(sequence, OUTCOME_UNKNOWN, sequence->fault,
                           "not reached: ", link->error);
        else
            refuse_offline(sequence, link, sequence->fault);
    }
    if (!was_open)
        return;
    outcome->n_words = point_width(target->row);
    memcpy(outcome->words, target->words, outcome->n_words * sizeof(target->words[0]));
    outcome->written_ns = clock_mono_ns();
    sequence->fault = written_write(target, sequence->device, link);
    outcome->fault = target->fault;
    if (is_refused(target->fault))
        end(sequence, OUTCOME_FAILED);
    else
        sequence->stage = STAGE_BACK;
}

/* Tells the battery who commands it. */
static void write_source(struct sequence *sequence, struct link *link)
{
    const bool stop = sequence->outcome->command.stop;
    const bool was_open = link->is_open;
    if (!was_open && !is_reached(sequence, link)) {
        if (stop)
            sequence->stage = STAGE_WRITE; /* which tries once more */
        else
            refuse_offline(sequence, link, sequence->fault);
    }
    if (!was_open)
        return;
    sequence->source_written = true;
    sequence->fault = written_write(&sequence->source, sequence->device, link);
    /* A stop does not wait to see that it is taken: it goes ahead either way. */
    if (stop)
        sequence->stage = STAGE_WRITE;
    else if (is_refused(sequence->fault))
        end_with_fault(sequence, OUTCOME_FAILED, sequence->fault,
                       "the device does not take command_source", "");
    else
        sequence->stage = STAGE_SOURCE_BACK;
}

static void read_source(struct sequence *sequence, struct link *link)
{
    bool over;
    if (read_back(sequence, link, &sequence->source, &over))
        sequence->stage = STAGE_STATE_AGAIN;
    else if (over)
        sequence_refuse(sequence,
                        sequence->source.is_read ? REASON_NOT_READY : REASON_DEVICE_OFFLINE,
                        "command_source does not read back as written");
}

static void read_target(struct sequence *sequence, struct link *link)
{
    bool over;
    if (read_back(sequence, link, &sequence->target, &over)) {
        note_readback(sequence->outcome, &sequence->target);
        end(sequence, OUTCOME_CONFIRMED);
    } else if (over) {
        end_unsettled(sequence);
    }
}

/* What the setpoint holds before it is written over; not known is no harm. */
static void look(struct sequence *sequence, struct link *link)
{
    bool over;
    sequence->target.is_read = false;
    (void)read_back(sequence, link, &sequence->target, &over);
    sequence->looked = sequence->target.is_read;
    sequence->held = sequence->target.value;
    sequence->stage = STAGE_STATE;
}

/* The next of several writes, or what they must read back as. */
static void step_script(struct sequence *sequence, struct link *link)
{
    struct scripted *scripted = &sequence->scripted;
    const bool was_open = link->is_open;
    if (scripted->state == SCRIPTED_WRITES && !was_open && !is_reached(sequence, link))
        scripted_give_up(scripted, link, sequence->fault);
    else if (scripted->state != SCRIPTED_WRITES || was_open)
        scripted_step(scripted, link, &sequence->fault);
    if (scripted->state == SCRIPTED_ENDED)
        sequence->stage = STAGE_ENDED;
}

/* ---- the sequence ---- */

void sequence_begin(struct sequence *sequence, struct outcome *outcome, bool look_first,
                    bool judge_only)
{
    const struct device_control *control = &sequence->device->control;
    const struct command *command = &outcome->command;
    const bool setpoint = sequence->plan != NULL && (int)command->point == control->setpoint;
    const bool source = setpoint && control->command_source >= 0;
    const struct point *points = sequence->device->points;

    sequence->outcome = outcome;
    sequence->judge_only = judge_only;
    sequence->scanning = sequence->once_more = sequence->source_written = sequence->looked = false;
    sequence->scripts = false;
    sequence->silence_ns = 0;
    if (setpoint && sequence->scripted.driver != NULL) {
        sequence->stage = STAGE_STATE;
        if (command->stop && judge_only)
            end(sequence, OUTCOME_REFUSED);
        else if (command->stop)
            begin_script(sequence, SCRIPTED_STOP, NULL);
        return;
    }
    if (!written_begin(&sequence->target, &points[command->point], command->value) ||
        (source && !written_begin(&sequence->source, &points[control->source],
                                  (double)control->command_source))) {
        sequence_refuse(sequence, REASON_OFF_STEP, ""); /* not after admit() and check */
        return;
    }
    if (judge_only && (command->stop || !setpoint))
        end(sequence, OUTCOME_REFUSED);
    else if (command->stop && source)
        sequence->stage = STAGE_SOURCE;
    else if (command->stop || !setpoint)
        sequence->stage = STAGE_WRITE;
    else
        sequence->stage = look_first ? STAGE_LOOK : STAGE_STATE;
}

void sequence_begin_release(struct sequence *sequence, struct outcome *outcome)
{
    sequence->outcome = outcome;
    sequence->judge_only = sequence->looked = sequence->source_written = false;
    sequence->silence_ns = 0;
    begin_script(sequence, SCRIPTED_RELEASE, NULL);
}

bool sequence_carries(const struct sequence *sequence)
{
    return sequence->stage != STAGE_SCRIPT || scripted_carries(&sequence->scripted);
}

bool sequence_has_written(const struct sequence *sequence)
{
    return sequence->source_written || (sequence->scripts && sequence->scripted.wrote);
}

struct driver_end sequence_end(const struct sequence *sequence)
{
    const struct outcome *outcome = sequence->outcome;
    return sequence->scripts ? scripted_end(&sequence->scripted)
                             : (struct driver_end){.outcome = outcome,
                                                   .took = outcome->written_ns != 0 &&
                                                           !is_refused(sequence->target.fault)};
}

void sequence_step(struct sequence *sequence, struct link *link)
{
    const int64_t begun_ns = clock_mono_ns();
    switch (sequence->stage) {
    case STAGE_LOOK:
        look(sequence, link);
        break;
    case STAGE_STATE:
    case STAGE_STATE_AGAIN:
        read_state(sequence, link);
        break;
    case STAGE_SOURCE:
        write_source(sequence, link);
        break;
    case STAGE_SOURCE_BACK:
        read_source(sequence, link);
        break;
    case STAGE_WRITE:
        write_target(sequence, link);
        break;
    case STAGE_BACK:
        read_target(sequence, link);
        break;
    case STAGE_SCRIPT:
        step_script(sequence, link);
        break;
    case STAGE_NONE:
    case STAGE_ENDED:
        break;
    }
    if (fault_is_silence(sequence->fault))
        sequence->silence_ns += clock_mono_ns() - begun_ns;
}

enum sequence_step sequence_state(const struct sequence *sequence)
{
    switch (sequence->stage) {
    case STAGE_NONE:
        return SEQUENCE_IDLE;
    case STAGE_ENDED:
        return SEQUENCE_ENDED;
    case STAGE_WRITE:
        return SEQUENCE_WRITE;
    case STAGE_SCRIPT:
        if (sequence->scripted.state == SCRIPTED_WRITES)
            return SEQUENCE_WRITE;
        return sequence_pause_ns(sequence) > clock_mono_ns() ? SEQUENCE_PAUSE : SEQUENCE_MORE;
    default:
        return sequence_pause_ns(sequence) > clock_mono_ns() ? SEQUENCE_PAUSE : SEQUENCE_MORE;
    }
}

int64_t sequence_pause_ns(const struct sequence *sequence)
{
    switch (sequence->stage) {
    case STAGE_BACK:
        return sequence->target.pause_ns;
    case STAGE_SOURCE_BACK:
        return sequence->source.pause_ns;
    case STAGE_SCRIPT:
        return sequence->scripted.pause_ns;
    default:
        return 0;
    }
}

bool sequence_looked(const struct sequence *sequence, struct value *held)
{
    if (sequence->looked)
        *held = sequence->held;
    return sequence->looked;
}

void sequence_cut(struct sequence *sequence)
{
    const struct command *command = &sequence->outcome->command;
    if (sequence->stage == STAGE_BACK)
        end_unsettled(sequence);
    else if (sequence->stage == STAGE_SCRIPT)
        scripted_cut(&sequence->scripted);
    else if (sequence->stage != STAGE_ENDED)
        end(sequence,
            command->stop && !command_is_own(command) ? OUTCOME_UNKNOWN : OUTCOME_SUPERSEDED);
    if (sequence->stage == STAGE_SCRIPT)
        sequence->stage = STAGE_ENDED;
}

void sequence_rest(struct sequence *sequence)
{
    sequence->stage = STAGE_NONE;
}

int64_t sequence_silence_ns(const struct sequence *sequence)
{
    return sequence->silence_ns;
}
