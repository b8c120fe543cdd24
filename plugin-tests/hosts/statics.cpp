/*
 * A host that keeps its handles in static objects and thread-locals. Their destructors, which run
 * after main, push, wait, close and release in the order of destruction.
 *
 *     statics CONFIG TOPIC
 */
#include <octopus.hpp>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include <unistd.h>

namespace {

using namespace std::chrono_literals;

constexpr int all_destroyed = 6;

/* The first static, so the last to be destroyed: the exit status shows that no other destructor
 * threw. */
struct Last {
    ~Last() { _exit(all_destroyed); }
} last;

void expect(bool holds, const char *what)
{
    if (holds)
        return;
    std::fprintf(stderr, "failed: %s\n", what);
    _exit(1);
}
#define EXPECT(condition) expect((condition), #condition)

/* Statics are destroyed in the reverse order of their definition: some before the objects they were
 * made from, some after. */
std::optional<octopus::Event> event;
std::optional<octopus::Push> in_flight;
std::optional<octopus::Driver> driver;
std::optional<octopus::Topic> topic;

struct Closing {
    std::optional<octopus::Producer> producer;
    std::optional<octopus::Consumer> consumer;

    ~Closing()
    {
        const auto delivered = producer->push(octopus::NewEvent{"\"at the end\""}).wait(60s);
        EXPECT(delivered.has_value());
        EXPECT(producer->close(60s));
        EXPECT(in_flight->wait(0s).has_value());
        event->acknowledge();
        EXPECT(consumer->close(60s));
        EXPECT(event->metadata() == "\"first\"");
    }
} closing;

struct OfThread {
    octopus::Producer producer;

    ~OfThread()
    {
        EXPECT(producer.push(octopus::NewEvent{"\"as a thread ends\""}).wait(60s).has_value());
    }
};

void use_a_thread_local()
{
    thread_local const OfThread kept{topic->producer()};
    EXPECT(kept.producer.push(octopus::NewEvent{}).wait(60s).has_value());
}

void open(const std::string &config, const std::string &name)
{
    driver.emplace(octopus::Library(octopus_register), config);
    octopus::TopicOptions how;
    how.options = R"({"replication_factor": 1})";
    driver->create_topic(name, how);
    topic.emplace(driver->open_topic(name));
    closing.producer.emplace(topic->producer());
    closing.consumer.emplace(topic->consumer(name));
    EXPECT(closing.producer->push(octopus::NewEvent{"\"first\""}).wait(60s).has_value());
    event.emplace(*closing.consumer->pull().wait(60s));
    std::thread(use_a_thread_local).join();
    use_a_thread_local(); /* this thread's object is destroyed before the statics */
    in_flight.emplace(closing.producer->push(octopus::NewEvent{}));
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s CONFIG TOPIC\n", argv[0]);
        return 1;
    }
    try {
        open(argv[1], argv[2]);
    } catch (const std::exception &why) {
        std::fprintf(stderr, "%s\n", why.what());
        _exit(1);
    }
    return 0;
}
