/*
 * What hosts in C++ on octopus.hpp share: one library, one Kafka, and topics and groups of their own.
 */

#ifndef SCENE_HPP
#define SCENE_HPP

#include "octopus.hpp"
#include "promises.hpp"

#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace scene {

using namespace std::chrono_literals;

constexpr octopus::milliseconds patience = 60s, a_moment = 300ms;

inline std::string servers, prefix;

inline const octopus::Library &library()
{
    static const octopus::Library loaded(octopus_register);
    return loaded;
}

/* What each driver's services hold. They are given back behind the last client, which ends in the background. */
inline const std::shared_ptr<const bool> presence = std::make_shared<const bool>(true);

inline octopus::Driver driver(octopus::Services services = {})
{
    services.fatal = [present = presence, told = std::move(services.fatal)](
                         std::string_view client, std::int32_t code, std::string_view message) {
        if (told)
            told(client, code, message);
    };
    return octopus::Driver(library(), R"({"kafka": {"bootstrap.servers": ")" + servers + R"("}})", std::move(services));
}

inline octopus::Topic new_topic(const octopus::Driver &driver, const std::string &name, unsigned partitions,
                                octopus::TopicOptions how = {})
{
    const std::string options =
        R"({"replication_factor": 1, "num_partitions": )" + std::to_string(partitions) + "}";
    how.options = options;
    driver.create_topic(prefix + name, how);
    return driver.open_topic(prefix + name);
}

inline octopus::Topic new_topic(const std::string &name, unsigned partitions)
{
    return new_topic(driver(), name, partitions);
}

/* A consumer of a group that nobody else uses. */
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
    EXPECT(producer.flush().wait(patience));
}

inline unsigned number_of(const octopus::Event &event)
{
    return static_cast<unsigned>(std::stoul(std::string(*event.metadata())));
}

inline std::vector<unsigned> read_numbers(const octopus::Consumer &consumer, std::size_t count)
{
    std::vector<unsigned> numbers;
    while (numbers.size() < count) {
        const auto event = consumer.next(patience);
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

/* Nothing of the drivers is there any more, which whoever looks for leaks would find on its way otherwise. */
inline bool is_over()
{
    for (int look = 0; look < 1000 && presence.use_count() > 1; look++)
        std::this_thread::sleep_for(10ms);
    return presence.use_count() == 1;
}

/* A program that shows these promises; it is told where Kafka is, and how the names of its topics begin. */
template <std::size_t count> int run(int argc, char **argv, const promises::Promise (&all)[count])
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS PREFIX\n", argv[0]);
        return 2;
    }
    servers = argv[1];
    prefix = argv[2];
    const int result = promises::keep(all);
    if (!is_over()) {
        std::fputs("some of the drivers' clients are still there\n", stderr);
        return 1;
    }
    return result;
}

} // namespace scene

#endif
