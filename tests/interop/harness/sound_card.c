// The sound card of a phone that knows nothing but ALSA, on a machine that has none: it is loaded before libasound, whose device `null` has
// no clock.  The microphone gives a sine of $TONE Hz, the loudspeaker writes the wav file $HEARD.  One channel of 16 bits at 8 kHz.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RATE 8000

struct clock { struct timespec due; };

static void pass(struct clock *clock, unsigned long frames) {
    struct timespec now, *due = &clock->due;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > due->tv_sec + 1) *due = now; // it begins, or was not used for a while
    due->tv_nsec += frames * (1000000000 / RATE);
    due->tv_sec += due->tv_nsec / 1000000000;
    due->tv_nsec %= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, due, NULL);
}

long snd_pcm_readi(void *pcm, short *samples, unsigned long frames) {
    static struct clock clock;
    static unsigned long at;
    double step = 2 * M_PI * atof(getenv("TONE")) / RATE;
    for (unsigned long i = 0; i < frames; i++) samples[i] = 8000 * sin(step * (at++ % RATE));
    pass(&clock, frames);
    return frames;
}

long snd_pcm_writei(void *pcm, const short *samples, unsigned long frames) {
    static struct clock clock;
    static FILE *file;
    if (!file) {
        // a header whose lengths nobody fills in: it is read while it grows
        const unsigned char head[44] = "RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data";
        file = fopen(getenv("HEARD"), "wb");
        if (!file) abort();
        fwrite(head, sizeof head, 1, file);
    }
    fwrite(samples, 2, frames, file);
    fflush(file);
    pass(&clock, frames);
    return frames;
}
