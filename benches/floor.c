/* What the kernel alone takes to deliver events: a server that writes each event to each WebSocket with one send, and does nothing else.
 * benches/cas_load.py --floor compiles and runs it: floor CLIENTS EVENTS_A_SECOND SECONDS BYTES. It prints its port, then its CPU. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + 1e-6 * (r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    int clients = atoi(arguments[1]), rate = atoi(arguments[2]), seconds = atoi(arguments[3]), size = atoi(arguments[4]);
    if (clients < 1 || rate < 1 || seconds < 1 || size < 200 || size > 60000) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int *sockets = calloc(clients, sizeof *sockets);
    static char frame[65536];
    for (int i = 0; i < clients; i++) {
        sockets[i] = accept(listener, NULL, NULL);
        int one = 1;
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        const char *switching = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        if (read(sockets[i], frame, sizeof frame) <= 0 || send(sockets[i], switching, strlen(switching), 0) < 0) return 1;
    }
    memset(frame, ' ', sizeof frame);
    frame[0] = (char)0x81, frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size;
    double before = cpu();
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    for (int event = 1; event <= rate * seconds; event++) {
        at.tv_nsec += 1000000000 / rate;
        at.tv_sec += at.tv_nsec / 1000000000;
        at.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        sprintf(frame + 4, "{\"sequence-id\":%d,\"number\":\"+%d\",\"message\":\"changed\"}", event, event);
        for (int i = 0; i < clients; i++)
            if (send(sockets[i], frame, 4 + size, MSG_NOSIGNAL) != 4 + size) return 1;
    }
    printf("%.1f\n", (cpu() - before) * 1e6 / ((double)clients * rate * seconds));
    return 0;
}
