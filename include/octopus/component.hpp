/// @file
/// Validators, selectors and serializers of the host. Part of octopus.hpp.

#ifndef OCTOPUS_COMPONENT_HPP
#define OCTOPUS_COMPONENT_HPP

#include "detail.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace octopus {

/// Receives the bytes that a callback produces. Valid during the call of that callback.
///
/// @since 0.1
class Output {
public:
    /// Appends bytes, which are copied.
    ///
    /// @param bytes The bytes.
    void append(std::string_view bytes) const
    {
        reply_->append(reply_->token, detail::bytes(bytes));
    }

private:
    friend class Preparation;
    friend class Serializer;
    explicit Output(const octopus_component_reply *reply) : reply_(reply) {}
    const octopus_component_reply *reply_;
};

/// Decides whether an event may be pushed.
///
/// @since 0.1
class Validator {
public:
    virtual ~Validator() = default;
    /// Validates an event. An exception rejects it, and its message becomes part of the error.
    ///
    /// @param metadata The metadata as JSON, valid during the call.
    /// @param data The segments of the data, valid during the call.
    /// @note Any thread, several calls at the same time.
    virtual void validate(std::string_view metadata,
                          const std::vector<std::string_view> &data) const = 0;
};

/// Chooses the partitions of the events of one producer.
///
/// @since 0.1
class Selector {
public:
    virtual ~Selector() = default;
    /// Chooses a partition. An exception fails the push.
    ///
    /// @param metadata The metadata as JSON; empty if the host serialized it.
    /// @param requested The partition that the push requested, if any.
    /// @param partitions The number of partitions.
    /// @return The partition, less than `partitions`.
    /// @note Any thread, one call at a time; in strict order, in the order of the pushes.
    virtual std::uint32_t select(std::string_view metadata, std::optional<std::uint64_t> requested,
                                 std::uint32_t partitions) = 0;
};

/// Converts metadata to bytes and back.
///
/// @since 0.1
class Serializer {
public:
    virtual ~Serializer() = default;
    /// Converts metadata to bytes. An exception fails the push.
    ///
    /// @param json The metadata as JSON, valid during the call.
    /// @param bytes Receives the bytes.
    /// @note Any thread, several calls at the same time.
    virtual void serialize(std::string_view json, const Output &bytes) const = 0;
    /// Converts bytes to metadata. An exception fails the pull.
    ///
    /// @param bytes The bytes, valid during the call.
    /// @param json Receives the metadata as JSON.
    /// @note Any thread, several calls at the same time.
    virtual void deserialize(std::string_view bytes, const Output &json) const = 0;

private:
    friend class Driver;
    static Output output(const octopus_component_reply *reply) { return Output(reply); }
};

/// Creates a component from its JSON object. It throws if the component can't be created.
///
/// @since 0.1
template <class Component>
using Make = std::function<std::unique_ptr<Component>(std::string_view json)>;

} // namespace octopus

#endif /* OCTOPUS_COMPONENT_HPP */
