/*
 * One measurement through the C++ Diaspora API, with LIBRARY as its driver "octopus".
 * plugin-tests/bench runs it in pairs, with this project's library and with C++ Octopus. Prints the
 * figures as a line of JSON.
 *
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC push|pull EVENTS BYTES    EVENTS events with BYTES bytes of data each
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC open 1 0                  creates and opens the topic
 *     ./bench LIBRARY BOOTSTRAP-SERVERS TOPIC first-push|first-event 1 BYTES    from the start of the process
 */

#include "support.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>

namespace {

using namespace support;
using Clock = std::chrono::steady_clock;

double micros(Clock::duration time)
{
    return std::chrono::duration<double, std::micro>(time).count();
}

/* Returns the user and system time of all threads, in microseconds. */
double cpu_time()
{
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval &time) {
        return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

const Clock::time_point began = Clock::now();

struct Measurement {
    Clock::time_point wall = Clock::now();
    double cpu = cpu_time();

    void print(unsigned long events) const
    {
        std::printf(
            "{\"events\":%lu,\"cpu\":%.1f,\"wall\":%.1f,\"peak\":0,\"growth\":0,\"threads\":0,\"descriptors\":0,"
            "\"times\":null,\"slip\":null}\n",
            events, cpu_time() - cpu, micros(Clock::now() - wall));
        std::fflush(stdout);
    }
};

const Metadata metadata{R"({"detector":7,"frame":123456789})"};

void push(const std::string &topic_name, unsigned long events, std::string &bytes)
{
    const auto own = driver();
    auto producer = own.openTopic(topic_name).producer("bench", own.defaultThreadPool());
    const diaspora::DataView data(bytes.data(), bytes.size());
    EXPECT(producer.push(metadata, data).wait(timeout_ms));
    const Measurement measurement;
    for (unsigned long event = 0; event < events; event++)
        producer.push(metadata, data);
    EXPECT(producer.flush().wait(timeout_ms));
    measurement.print(events);
}

void pull(const std::string &topic_name, unsigned long events)
{
    const auto consumer =
        driver().openTopic(topic_name).consumer(topic_name + "-" + std::to_string(getpid()));
    EXPECT(consumer.pull().wait(timeout_ms));
    const Measurement measurement;
    unsigned long long bytes = 0;
    for (unsigned long event = 0; event < events; event++) {
        const auto pulled = consumer.pull().wait(timeout_ms);
        EXPECT(pulled);
        bytes += pulled->data().size() + pulled->metadata().json().size();
    }
    EXPECT(bytes > 0);
    measurement.print(events);
}

/* Prints the time since the start of the program. */
void print_since_start()
{
    Measurement measurement;
    measurement.wall = began;
    measurement.cpu = 0;
    measurement.print(1);
}

void first_push(const std::string &topic_name, std::string &bytes)
{
    const auto own = driver();
    auto producer = own.openTopic(topic_name).producer("bench", own.defaultThreadPool());
    EXPECT(
        producer.push(metadata, diaspora::DataView(bytes.data(), bytes.size())).wait(timeout_ms));
    print_since_start();
}

void first_event(const std::string &topic_name)
{
    const auto consumer =
        driver().openTopic(topic_name).consumer(topic_name + "-" + std::to_string(getpid()));
    EXPECT(consumer.pull().wait(timeout_ms));
    print_since_start();
}

void open(const std::string &topic_name)
{
    const auto own = driver();
    const Measurement measurement;
    own.createTopic(topic_name, topic_options(1));
    own.openTopic(topic_name);
    measurement.print(1);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 7) {
        std::fprintf(
            stderr,
            "usage: %s LIBRARY BOOTSTRAP-SERVERS TOPIC push|pull|open|first-push|first-event EVENTS BYTES\n",
            argv[0]);
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
    // Ends without releasing the library's objects, since their teardown is not part of the
    // measurement.
    std::fflush(nullptr);
    _exit(0);
}
