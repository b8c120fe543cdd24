/* Tests data selectors and allocators: each kind of selection, stacked selections, scattered
 * memory, and bounds. */

#include "support.hpp"

#include <cstring>
#include <random>

namespace {

using namespace support;
using diaspora::DataDescriptor;
using diaspora::DataView;
using test_cases::mentions;

std::string alphabet() { return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"; }

/* Returns a topic with one event that has this data. */
diaspora::TopicHandle topic_of(const std::string &name, std::string data)
{
    const auto topic = new_topic(name, 1);
    EXPECT(topic.producer().push(number(0), view(data)).wait(timeout_ms));
    return topic;
}

/* Scattered memory, each piece between guard bytes that must not change. */
class Memory {
public:
    explicit Memory(const std::vector<std::size_t> &sizes)
    {
        for (const std::size_t size : sizes)
            pieces_.push_back(guard() + std::string(size, '.') + guard());
    }

    DataView view()
    {
        std::vector<DataView::Segment> segments;
        for (std::string &piece : pieces_)
            segments.push_back({piece.data() + guard().size(), piece.size() - 2 * guard().size()});
        return DataView{segments, this};
    }

    bool has_intact_guards() const
    {
        for (const std::string &piece : pieces_)
            if (piece.substr(0, guard().size()) != guard() ||
                piece.substr(piece.size() - guard().size()) != guard())
                return false;
        return true;
    }

private:
    static std::string guard() { return "||||||||"; }

    std::vector<std::string> pieces_;
};

using Select = std::function<DataDescriptor(const DataDescriptor &)>;

diaspora::Consumer loading(const diaspora::TopicHandle &topic, const Select &select, Memory &memory)
{
    return topic.consumer(
        unique("loading"), diaspora::DataSelector{[=](const Metadata &, const DataDescriptor &all) {
            return select(all);
        }},
        diaspora::DataAllocator{
            [&memory](const Metadata &, const DataDescriptor &) { return memory.view(); }});
}

std::string loaded(const diaspora::TopicHandle &topic, const Select &select, Memory memory)
{
    const auto event = next(loading(topic, select, memory));
    EXPECT(memory.has_intact_guards() && event.data().context() == &memory);
    return text_of(event.data());
}

std::string load_error(const diaspora::TopicHandle &topic, const Select &select, Memory memory)
{
    const auto consumer = loading(topic, select, memory);
    const auto why = THROWN_BY(diaspora::Exception, consumer.pull().wait(timeout_ms));
    EXPECT(memory.has_intact_guards());
    return why.what();
}

void each_kind_of_selection_loads_what_it_selects()
{
    const auto topic = topic_of("kinds", alphabet());
    const auto all = [](const DataDescriptor &data) { return data; };
    EXPECT(loaded(topic, all, Memory({52})) == alphabet());
    EXPECT(loaded(topic, all, Memory({60})) == alphabet() + "........");
    const auto part = [](const DataDescriptor &data) { return data.makeSubView(13, 26); };
    EXPECT(loaded(topic, part, Memory({26})) == alphabet().substr(13, 26));
    const auto strided = [](const DataDescriptor &data) {
        return data.makeStridedView(1, 5, 2, 3);
    };
    EXPECT(loaded(topic, strided, Memory({10})) == "bcghlmqrvw");
    const auto pieces = [](const DataDescriptor &data) {
        return data.makeUnstructuredView({{1, 3}, {7, 5}, {14, 2}});
    };
    EXPECT(loaded(topic, pieces, Memory({10})) == "bcdhijklop");
    const auto nothing = [](const DataDescriptor &) { return DataDescriptor{}; };
    EXPECT(loaded(topic, nothing, Memory({3})) == "..." &&
           loaded(topic, nothing, Memory({})).empty());
}

void stacked_selection_is_relative_to_the_one_below()
{
    const auto topic = topic_of("stacked", alphabet());
    const auto of_strided = [](const DataDescriptor &data) {
        return data.makeStridedView(0, 5, 2, 3)
            .makeSubView(3, 4); /* abfgklpquv, then its characters 3 to 6 */
    };
    EXPECT(loaded(topic, of_strided, Memory({4})) == "gklp");
    const auto of_part = [](const DataDescriptor &data) {
        return data.makeSubView(26, 26)
            .makeStridedView(0, 5, 1, 4)
            .makeUnstructuredView({{1, 1}, {3, 2}});
    };
    EXPECT(loaded(topic, of_part, Memory({3})) == "FPU");
    const auto of_pieces = [](const DataDescriptor &data) {
        return data.makeUnstructuredView({{0, 3}, {10, 3}, {20, 3}})
            .makeSubView(2, 5)
            .makeStridedView(0, 2, 1, 1);
    };
    EXPECT(loaded(topic, of_pieces, Memory({2})) == "cl");
}

void random_selection_stacks_match_a_plain_computation()
{
    const auto text = alphabet();
    const auto topic = topic_of("any-stack", text);
    std::minstd_rand random(7);
    const auto up_to = [&](std::size_t most) {
        return std::uniform_int_distribution<std::size_t>(0, most)(random);
    };
    for (unsigned round = 0; round < 60; round++) {
        DataDescriptor descriptor{"", text.size()};
        std::string expected = text;
        for (std::size_t depth = up_to(4); depth > 0 && !expected.empty(); depth--) {
            std::string above;
            switch (up_to(2)) {
            case 0: {
                const std::size_t offset = up_to(expected.size() - 1),
                                  size = 1 + up_to(expected.size() - offset - 1);
                descriptor = descriptor.makeSubView(offset, size);
                above = expected.substr(offset, size);
                break;
            }
            case 1: {
                const std::size_t offset = up_to(expected.size() / 2), block = 1 + up_to(2),
                                  gap = up_to(3);
                const std::size_t count = (expected.size() - offset) / (block + gap);
                if (count == 0)
                    continue;
                descriptor = descriptor.makeStridedView(offset, count, block, gap);
                for (std::size_t index = 0; index < count; index++)
                    above += expected.substr(offset + index * (block + gap), block);
                break;
            }
            default: {
                std::vector<DataDescriptor::Contiguous> pieces;
                for (std::size_t offset = up_to(3); offset < expected.size(); offset += up_to(5)) {
                    const std::size_t size = 1 + up_to(std::min<std::size_t>(3, expected.size() -
                                                                                    offset - 1));
                    pieces.push_back({offset, size});
                    above += expected.substr(offset, size);
                    offset += size;
                }
                if (pieces.empty())
                    continue;
                descriptor = descriptor.makeUnstructuredView(pieces);
            }
            }
            expected = above;
        }
        std::vector<std::size_t> sizes;
        std::size_t total = 0;
        while (total < expected.size()) {
            sizes.push_back(up_to(4));
            total += sizes.back();
        }
        const auto select = [&](const DataDescriptor &) { return descriptor; };
        EXPECT(loaded(topic, select, Memory(sizes)).substr(0, expected.size()) == expected);
    }
}

void scattered_memory_is_filled_in_order_and_checked_for_size()
{
    const auto topic = topic_of("scattered", alphabet());
    const auto part = [](const DataDescriptor &data) { return data.makeStridedView(0, 6, 3, 2); };
    EXPECT(loaded(topic, part, Memory({1, 0, 7, 10, 5})) == "abcfghklmpqruvwzAB.....");
    EXPECT(load_error(topic, part, Memory({1, 0, 7, 9})).find("18 bytes") != std::string::npos);
    EXPECT(load_error(topic, part, Memory({})).find("memory for 0") != std::string::npos);
    const auto at_null = topic.consumer(
        unique("null"),
        diaspora::DataSelector{[](const Metadata &, const DataDescriptor &all) { return all; }},
        diaspora::DataAllocator{[](const Metadata &, const DataDescriptor &all) {
            return DataView{nullptr, all.size()};
        }});
    EXPECT(mentions(THROWN_BY(diaspora::Exception, at_null.pull().wait(timeout_ms)), "NULL"));
}

void selection_beyond_the_data_fails_that_pull_only()
{
    std::string first = "abc", second = "defg";
    const auto topic = new_topic("beyond", 1);
    auto producer = topic.producer();
    producer.push(number(0), view(first));
    producer.push(number(1), view(second));
    EXPECT(producer.flush().wait(timeout_ms));
    /* These descriptors are for more data than the event has. */
    for (const DataDescriptor &wrong :
         {DataDescriptor{"", 4}, DataDescriptor{"", 100}.makeSubView(1, 3),
          DataDescriptor{"", 100}.makeSubView(50, 1),
          DataDescriptor{"", 100}.makeStridedView(0, 2, 1, 2),
          DataDescriptor{"", 100}.makeUnstructuredView({{0, 1}, {3, 1}}),
          DataDescriptor{"", std::numeric_limits<std::size_t>::max()}.makeStridedView(
              1, 3, 1, std::size_t{1} << 62)}) {
        Memory memory({100});
        const auto consumer = loading(
            topic, [&](const DataDescriptor &all) { return all.size() == 3 ? wrong : all; },
            memory);
        EXPECT(mentions(THROWN_BY(diaspora::Exception, consumer.pull().wait(timeout_ms)),
                        "beyond the"));
        EXPECT(text_of(next(consumer).data()).substr(0, 4) == "defg");
    }
}

void data_is_loaded_only_with_selector_and_allocator()
{
    std::string data = "data";
    const auto topic = new_topic("without", 1);
    auto producer = topic.producer();
    producer.push(number(0), view(data));
    producer.push(number(1));
    EXPECT(producer.flush().wait(timeout_ms));
    std::vector<std::size_t> asked;
    const diaspora::DataAllocator allocator = [&](const Metadata &,
                                                  const DataDescriptor &selected) {
        asked.push_back(selected.size());
        return DataView{&asked};
    };
    const diaspora::DataSelector selector = [](const Metadata &, const DataDescriptor &all) {
        return all.size() > 0 ? DataDescriptor{} : all;
    };
    const auto neither = topic.consumer(unique("neither"));
    const auto allocated = topic.consumer(unique("allocated"), allocator);
    const auto selected = topic.consumer(
        unique("selected"),
        diaspora::DataSelector{[](const Metadata &, const DataDescriptor &all) { return all; }});
    const auto both = topic.consumer(unique("both"), allocator, selector);
    for (const auto *consumer : {&neither, &allocated, &selected, &both})
        for (unsigned index = 0; index < 2; index++) {
            const auto event = next(*consumer);
            EXPECT(event.data().size() == 0 && event.data().segments().empty());
            EXPECT(event.data().context() ==
                   (consumer == &allocated || consumer == &both ? &asked : nullptr));
        }
    EXPECT(asked == std::vector<std::size_t>(4, 0));
}

/* An exception type that is not derived from std::exception. */
struct CustomException {
    int number;
};

void selector_or_allocator_exception_fails_that_pull_only()
{
    const auto topic = new_topic("throwing", 1);
    fill(topic, 3);
    const diaspora::DataSelector selector = [](const Metadata &metadata,
                                               const DataDescriptor &all) {
        if (metadata.json().at("number") == 0)
            throw CustomException{3};
        return all;
    };
    const diaspora::DataAllocator allocator = [](const Metadata &metadata, const DataDescriptor &) {
        if (metadata.json().at("number") == 1)
            throw std::bad_alloc();
        return DataView{};
    };
    const auto consumer = topic.consumer(unique("throwing"), allocator, selector);
    EXPECT(THROWN_BY(CustomException, consumer.pull().wait(timeout_ms)).number == 3);
    const auto failed = consumer.pull();
    THROWN_BY(std::bad_alloc, failed.wait(timeout_ms));
    THROWN_BY(std::bad_alloc, failed.wait(timeout_ms));
    EXPECT(number_of(next(consumer)) == 2);
    /* `process` rethrows it, too. */
    const auto processing = topic.consumer(unique("throwing"), allocator, selector);
    EXPECT(THROWN_BY(CustomException, processing.process([](const auto &) {}, timeout_ms)).number ==
           3);
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(each_kind_of_selection_loads_what_it_selects),
    TEST_CASE(stacked_selection_is_relative_to_the_one_below),
    TEST_CASE(random_selection_stacks_match_a_plain_computation),
    TEST_CASE(scattered_memory_is_filled_in_order_and_checked_for_size),
    TEST_CASE(selection_beyond_the_data_fails_that_pull_only),
    TEST_CASE(data_is_loaded_only_with_selector_and_allocator),
    TEST_CASE(selector_or_allocator_exception_fails_that_pull_only),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
