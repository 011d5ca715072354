#include "bridge/telemetry/agenda.h"

#include <stdlib.h>

/* A knock-out: node i is played out between nodes 2i and 2i + 1, node 1 is the final.
 * The players are the nodes from n_places on. */
struct agenda {
    unsigned n_places; /* a power of two */
    int64_t *due_ns;   /* of each player */
    unsigned winner[]; /* of each node */
};

struct agenda *agenda_new(unsigned n)
{
    unsigned n_places = 1;
    while (n_places < n)
        n_places *= 2;
    struct agenda *agenda = calloc(1, sizeof(*agenda) + 2 * n_places * sizeof(unsigned));
    if (agenda == NULL)
        return NULL;
    agenda->n_places = n_places;
    agenda->due_ns = malloc(n_places * sizeof(*agenda->due_ns));
    if (agenda->due_ns == NULL) {
        free(agenda);
        return NULL;
    }
    for (unsigned i = 0; i < n_places; i++) {
        agenda->due_ns[i] = INT64_MAX;
        agenda->winner[n_places + i] = i;
    }
    for (unsigned node = n_places; node-- > 1;)
        agenda->winner[node] = agenda->winner[2 * node];
    return agenda;
}

void agenda_free(struct agenda *agenda)
{
    if (agenda != NULL)
        free(agenda->due_ns);
    free(agenda);
}

void agenda_set(struct agenda *agenda, unsigned index, int64_t due_ns)
{
    const unsigned *winner = agenda->winner;
    agenda->due_ns[index] = due_ns;
    for (unsigned node = (agenda->n_places + index) / 2; node > 0; node /= 2) {
        const unsigned one = winner[2 * node], other = winner[2 * node + 1];
        agenda->winner[node] = agenda->due_ns[other] < agenda->due_ns[one] ? other : one;
    }
}

unsigned agenda_first(const struct agenda *agenda, int64_t *due_ns)
{
    const unsigned first = agenda->winner[1];
    *due_ns = agenda->due_ns[first];
    return first;
}
