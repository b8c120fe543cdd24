/*
 * One measurement through the C++ Diaspora API, on the library that is given as its driver "octopus": what plugin-tests/bench runs in
 * pairs, with this project's library and with C++ Octopus. Prints what it took as a line of JSON.
 *
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC push|pull EVENTS BYTES    so many events with so many bytes of data each
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC open 1 0                  the topic is made and opened
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC first-push|first-event 1 BYTES    from nothing
 */

#include "support.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>

namespace {

using namespace support;
using Clock = std::chrono::steady_clock;

double micros(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

/* User and system time of all threads, in microseconds. */
double processors()
{
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval &time) { return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec); };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

const Clock::time_point began = Clock::now();

struct Measured {
    Clock::time_point wall = Clock::now();
    double cpu = processors();

    void tell(unsigned long events) const
    {
        std::printf("{\"events\":%lu,\"cpu\":%.1f,\"wall\":%.1f,\"peak\":0,\"growth\":0,\"threads\":0,\"descriptors\":0,"
                    "\"times\":null,\"slip\":null}\n",
                    events, processors() - cpu, micros(Clock::now() - wall));
        std::fflush(stdout);
    }
};

const Metadata metadata{R"({"detector":7,"frame":123456789})"};

void push(const std::string &topic_name, unsigned long events, std::string &bytes)
{
    const auto own = driver();
    auto producer = own.openTopic(topic_name).producer("bench", own.defaultThreadPool());
    const diaspora::DataView data(bytes.data(), bytes.size());
    EXPECT(producer.push(metadata, data).wait(patience_ms));
    const Measured measured;
    for (unsigned long event = 0; event < events; event++)
        producer.push(metadata, data);
    EXPECT(producer.flush().wait(patience_ms));
    measured.tell(events);
}

void pull(const std::string &topic_name, unsigned long events)
{
    const auto consumer = driver().openTopic(topic_name).consumer(topic_name + "-" + std::to_string(getpid()));
    EXPECT(consumer.pull().wait(patience_ms));
    const Measured measured;
    unsigned long long bytes = 0;
    for (unsigned long event = 0; event < events; event++) {
        const auto pulled = consumer.pull().wait(patience_ms);
        EXPECT(pulled);
        bytes += pulled->data().size() + pulled->metadata().json().size();
    }
    EXPECT(bytes > 0);
    measured.tell(events);
}

/* From the program's start. */
void tell_since_then()
{
    Measured measured;
    measured.wall = began;
    measured.cpu = 0;
    measured.tell(1);
}

void first_push(const std::string &topic_name, std::string &bytes)
{
    const auto own = driver();
    auto producer = own.openTopic(topic_name).producer("bench", own.defaultThreadPool());
    EXPECT(producer.push(metadata, diaspora::DataView(bytes.data(), bytes.size())).wait(patience_ms));
    tell_since_then();
}

void first_event(const std::string &topic_name)
{
    const auto consumer = driver().openTopic(topic_name).consumer(topic_name + "-" + std::to_string(getpid()));
    EXPECT(consumer.pull().wait(patience_ms));
    tell_since_then();
}

void open(const std::string &topic_name)
{
    const auto own = driver();
    const Measured measured;
    own.createTopic(topic_name, topic_options(1));
    own.openTopic(topic_name);
    measured.tell(1);
}

}  // namespace

int main(int argc, char **argv)
{
    if (argc != 7) {
        std::fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS TOPIC push|pull|open|first-push|first-event EVENTS BYTES\n", argv[0]);
        return 2;
    }
    library = argv[1];
    servers = argv[2];
    const std::string topic = argv[3], work = argv[4];
    std::string bytes(std::stoul(argv[6]), 'd');
    const unsigned long events = std::stoul(argv[5]);
    if (work == "push")
        push(topic, events, bytes);
    else if (work == "pull")
        pull(topic, events);
    else if (work == "open")
        open(topic);
    else if (work == "first-push")
        first_push(topic, bytes);
    else if (work == "first-event")
        first_event(topic);
    else
        return 2;
    // What the library still has to give back is no part of the measurement.
    std::fflush(nullptr);
    _exit(0);
}
