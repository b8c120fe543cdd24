/*
 * As promises.cpp, for what a host provides to the plugin: components, thread pools, services and
 * tokens.
 */

#include "scenario.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

namespace {

using namespace scenario;
using octopus::Error;
using test_cases::Countdown;
using test_cases::mentions;

/* Components of each kind, which throw for certain events. */
struct Polite : octopus::Validator {
    void validate(std::string_view metadata,
                  const std::vector<std::string_view> &data) const override
    {
        if (metadata == "\"rude\"" || (!data.empty() && data[0] == "rude"))
            throw std::domain_error("how rude");
    }
};
struct Last : octopus::Selector {
    std::uint32_t select(std::string_view metadata, std::optional<std::uint64_t> requested,
                         std::uint32_t partitions) override
    {
        if (requested)
            throw std::domain_error("no wishes for " + std::string(metadata));
        return partitions - 1;
    }
};
struct Reversed : octopus::Serializer {
    void serialize(std::string_view json, const octopus::Output &bytes) const override
    {
        bytes.append(std::string(json.rbegin(), json.rend()));
    }
    void deserialize(std::string_view bytes, const octopus::Output &json) const override
    {
        if (bytes == "0")
            throw 3;
        json.append(std::string(bytes.rbegin(), bytes.rend()));
    }
};

void host_components_are_used_and_their_exceptions_reported()
{
    const octopus::Driver own = driver();
    own.register_validator("polite", [](std::string_view) { return std::make_unique<Polite>(); });
    own.register_selector("last", [](std::string_view) { return std::make_unique<Last>(); });
    own.register_serializer("reversed",
                            [](std::string_view json) -> std::unique_ptr<octopus::Serializer> {
                                if (json.find("broken") != std::string_view::npos)
                                    throw std::domain_error("it is broken");
                                return std::make_unique<Reversed>();
                            });
    EXPECT(THROWN_BY(Error, own.register_selector("last", {})).status() ==
           OCTOPUS_INVALID_ARGUMENT);
    octopus::TopicOptions how;
    how.validator = R"({"type": "polite"})";
    how.selector = R"({"type": "last"})";
    how.serializer = R"({"type": "reversed", "broken": true})";
    EXPECT(mentions(THROWN_BY(Error, new_topic(own, "components", 2, how)), "it is broken"));
    how.serializer = R"({"type": "reversed"})";
    const octopus::Topic topic = new_topic(own, "components", 2, how);
    const octopus::Producer producer = topic.producer();
    EXPECT(mentions(THROWN_BY(Error, producer.push({"\"rude\""})), "how rude"));
    EXPECT(mentions(THROWN_BY(Error, producer.push({"1", "rude"})), "how rude"));
    EXPECT(
        mentions(THROWN_BY(Error, producer.push({"1", "", 1}).wait(timeout)), "no wishes for 1"));
    EXPECT(producer.push({"0"}).wait(timeout)->partition == 1 &&
           producer.push({"12"}).wait(timeout));
    const octopus::Consumer consumer = reader(topic);
    EXPECT(mentions(THROWN_BY(Error, consumer.next(timeout)), "not a std::exception"));
    const auto event = consumer.next(timeout);
    EXPECT(event && event->metadata() == "12" && event->serialized_metadata() == "21" &&
           event->partition() == 1);
}

/* A pool of two threads that runs the newest task first. Of ten tasks it rejects one, drops one,
 * and queues one that it rejects. */
class OwnPool : public octopus::HostPool {
public:
    explicit OwnPool(Countdown &destroyed) : destroyed_(destroyed)
    {
        for (unsigned index = 0; index < 2; index++)
            threads_.emplace_back([this] { work(); });
    }

    ~OwnPool() override
    {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_over_ = true;
            changed_.notify_all();
        }
        for (std::thread &thread : threads_)
            thread.get_id() == std::this_thread::get_id() ? thread.detach() : thread.join();
        destroyed_.hit();
    }

    void submit(octopus::Task task, std::uint64_t) override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        switch (submitted_++ % 10) {
        case 3:
            throw std::runtime_error("refused");
        case 6:
            return;
        case 9:
            tasks_.push_back(task);
            changed_.notify_one();
            throw std::runtime_error("taken all the same");
        default:
            tasks_.push_back(std::move(task));
            changed_.notify_one();
        }
    }

    std::uint64_t pending() const override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return tasks_.size();
    }

    std::uint64_t thread_count() const override { return 2; }

private:
    void work()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return is_over_ || !tasks_.empty(); });
            if (tasks_.empty())
                return;
            const octopus::Task task = std::move(tasks_.back());
            tasks_.pop_back();
            lock.unlock();
            task();
            lock.lock();
        }
    }

    Countdown &destroyed_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<octopus::Task> tasks_;
    std::vector<std::thread> threads_;
    unsigned submitted_ = 0;
    bool is_over_ = false;
};

void host_pool_may_reject_drop_and_reorder_in_strict_order()
{
    Countdown destroyed(1);
    const octopus::Topic topic = new_topic("own-pool", 1);
    {
        const octopus::ThreadPool pool(library(), std::make_unique<OwnPool>(destroyed));
        EXPECT(pool.thread_count() == 2);
        octopus::ProducerOptions how;
        how.pool = &pool;
        const octopus::Producer producer = topic.producer(how);
        std::vector<octopus::Push> pushes;
        unsigned refused = 0, dropped = 0;
        for (unsigned number = 0; number < 100; number++) {
            try {
                pushes.push_back(producer.push({std::to_string(number)}));
            } catch (const Error &error) {
                EXPECT(error.status() == OCTOPUS_CALLBACK_FAILED);
                refused++;
            }
        }
        for (const octopus::Push &push : pushes) {
            try {
                EXPECT(push.wait(timeout));
            } catch (const Error &error) {
                EXPECT(error.status() == OCTOPUS_CALLBACK_FAILED);
                dropped++;
            }
        }
        EXPECT(refused == 10 && dropped == 10 && pool.pending() == 0);
        const std::vector<unsigned> numbers = read_numbers(reader(topic), 80);
        EXPECT(std::is_sorted(numbers.begin(), numbers.end()));
        Countdown worked(1);
        octopus::ThreadPool(library(), 1).submit([&] { worked.hit(); });
        EXPECT(worked.is_over_within(timeout));
    }
    EXPECT(destroyed.is_over_within(timeout));
}

void services_are_called_until_they_are_destroyed()
{
    /* The plugin may call the services until it has destroyed them, which happens after the release
     * of the driver. */
    struct State {
        Countdown &destroyed;
        Countdown assigned{1};
        std::mutex mutex;
        std::string log;
        bool has_statistics = false;
        explicit State(Countdown &countdown) : destroyed(countdown) {}
        ~State() { destroyed.hit(); }
    };
    Countdown destroyed(1);
    {
        const auto state = std::make_shared<State>(destroyed);
        octopus::Services services;
        services.log = [state](std::int32_t, std::string_view, std::string_view message) {
            const std::lock_guard<std::mutex> lock(state->mutex);
            state->log.append(message);
        };
        services.statistics = [state](std::string_view, std::string_view json) {
            const std::lock_guard<std::mutex> lock(state->mutex);
            state->has_statistics = state->has_statistics || json.front() == '{';
        };
        services.fatal = [state](std::string_view, std::int32_t, std::string_view) {};
        services.rebalance = [state](std::string_view, std::int32_t what,
                                     const std::vector<std::uint32_t> &partitions) {
            if (what == OCTOPUS_PARTITIONS_ASSIGNED &&
                partitions == std::vector<std::uint32_t>{0, 1})
                state->assigned.hit();
        };
        const octopus::Driver own(
            library(),
            R"({"kafka": {"statistics.interval.ms": 50, "bootstrap.servers": ")" + servers +
                R"("}, "a key that nobody knows": 1})",
            std::move(services));
        const octopus::Topic topic = new_topic(own, "services", 2);
        const octopus::Consumer consumer = reader(topic);
        EXPECT(state->assigned.is_over_within(timeout));
        EXPECT(!consumer.next(a_moment));
        const std::lock_guard<std::mutex> lock(state->mutex);
        EXPECT(state->log.find("a key that nobody knows") != std::string::npos &&
               state->has_statistics);
    }
    EXPECT(destroyed.is_over_within(timeout));
}

void host_tokens_are_used_and_token_exceptions_logged()
{
    /* No broker listens at this address. The plugin asks for a token before it connects. */
    const char *const config =
        R"({"timeout_ms": 1000, "kafka": {"bootstrap.servers": "127.0.0.1:1", "sasl.mechanism":
        "OAUTHBEARER", "security.protocol": "sasl_plaintext", "sasl.oauthbearer.config": "of the host"}})";
    struct State {
        Countdown &destroyed;
        std::atomic<bool> has_logged{false}, got_config{false};
        explicit State(Countdown &countdown) : destroyed(countdown) {}
        ~State() { destroyed.hit(); }
    };
    for (const bool has_token : {true, false}) {
        Countdown destroyed(1);
        {
            const auto state = std::make_shared<State>(destroyed);
            octopus::Services services;
            services.log = [state, has_token](std::int32_t, std::string_view,
                                              std::string_view message) {
                const char *const wanted = has_token ? "has a new token" : "the vault is sealed";
                if (message.find(wanted) != std::string_view::npos)
                    state->has_logged = true;
            };
            services.token = [state, has_token](std::string_view config) -> octopus::Token {
                state->got_config = config == "of the host";
                if (!has_token)
                    throw std::runtime_error("the vault is sealed");
                return {"octopus-test-secret", "octopus", std::chrono::system_clock::now() + 1h};
            };
            const octopus::Driver driver(library(), config, std::move(services));
            const auto end = std::chrono::steady_clock::now() + timeout;
            while (!state->has_logged && std::chrono::steady_clock::now() < end)
                std::this_thread::sleep_for(10ms);
            EXPECT(state->has_logged && state->got_config);
        }
        EXPECT(destroyed.is_over_within(timeout));
    }
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(host_components_are_used_and_their_exceptions_reported),
    TEST_CASE(host_pool_may_reject_drop_and_reorder_in_strict_order),
    TEST_CASE(services_are_called_until_they_are_destroyed),
    TEST_CASE(host_tokens_are_used_and_token_exceptions_logged),
};

} // namespace

int main(int argc, char **argv) { return run(argc, argv, all); }
