/*
 * Shared by the hosts in C++ that use octopus.hpp: the loaded library, the Kafka, and helpers for
 * topics and groups.
 */

#ifndef SCENARIO_HPP
#define SCENARIO_HPP

#include "octopus.hpp"
#include "test_cases.hpp"

#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace scenario {

using namespace std::chrono_literals;

constexpr octopus::milliseconds timeout = 60s, a_moment = 300ms;

inline std::string servers, prefix;

inline const octopus::Library &library()
{
    static const octopus::Library loaded(octopus_register);
    return loaded;
}

/* Held by the services of each driver. The last client, which ends in the background, releases
 * them. */
inline const std::shared_ptr<const bool> presence = std::make_shared<const bool>(true);

/* `options` are members of the configuration. */
inline octopus::Driver driver(octopus::Services services = {}, const std::string &options = {})
{
    services.fatal = [present = presence, fatal = std::move(services.fatal)](
                         std::string_view client, std::int32_t code, std::string_view message) {
        if (fatal)
            fatal(client, code, message);
    };
    const std::string kafka = R"("kafka": {"bootstrap.servers": ")" + servers + R"("})";
    return octopus::Driver(library(), "{" + kafka + (options.empty() ? "" : ", " + options) + "}",
                           std::move(services));
}

inline octopus::Topic new_topic(const octopus::Driver &driver, const std::string &name,
                                unsigned partitions, octopus::TopicOptions how = {})
{
    const std::string options = R"({"replication_factor": 1, "num_partitions": )" +
                                std::to_string(partitions) + "}";
    how.options = options;
    driver.create_topic(prefix + name, how);
    return driver.open_topic(prefix + name);
}

inline octopus::Topic new_topic(const std::string &name, unsigned partitions)
{
    return new_topic(driver(), name, partitions);
}

/* A consumer of a group that no other test uses. */
inline octopus::Consumer reader(const octopus::Topic &topic, const std::string &name = "reader",
                                const octopus::ConsumerOptions &how = {})
{
    return topic.consumer(std::string(topic.name()) + "-" + name, how);
}

inline void fill(const octopus::Topic &topic, unsigned count)
{
    const octopus::Producer producer = topic.producer();
    for (unsigned number = 0; number < count; number++) {
        const std::string metadata = std::to_string(number);
        producer.push({metadata, metadata, number});
    }
    EXPECT(producer.flush().wait(timeout));
}

inline unsigned number_of(const octopus::Event &event)
{
    return static_cast<unsigned>(std::stoul(std::string(*event.metadata())));
}

inline std::vector<unsigned> read_numbers(const octopus::Consumer &consumer, std::size_t count)
{
    std::vector<unsigned> numbers;
    while (numbers.size() < count) {
        const auto event = consumer.next(timeout);
        EXPECT(event);
        numbers.push_back(number_of(*event));
    }
    return numbers;
}

inline std::vector<unsigned> up_to(unsigned count)
{
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0U);
    return numbers;
}

/* Waits until all clients have ended, since a leak checker would report what they still hold. */
inline bool wait_for_clients_to_end()
{
    for (int waits = 0; waits < 1000 && presence.use_count() > 1; waits++)
        std::this_thread::sleep_for(10ms);
    return presence.use_count() == 1;
}

/* Runs the test cases of a program, whose arguments are the bootstrap servers and a prefix for
 * topic names. */
template <std::size_t count>
int run(int argc, char **argv, const test_cases::TestCase (&all)[count])
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS PREFIX\n", argv[0]);
        return 2;
    }
    servers = argv[1];
    prefix = argv[2];
    const int result = test_cases::run_all(all);
    if (!wait_for_clients_to_end()) {
        std::fputs("some of the drivers' clients have not ended within 10 s\n", stderr);
        return 1;
    }
    return result;
}

} // namespace scenario

#endif
