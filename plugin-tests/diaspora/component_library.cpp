/* A library of components, which the C++ library loads by the type `picky:/path/libpicky.so`. */

#include <diaspora/Exception.hpp>
#include <diaspora/Validator.hpp>

namespace {

/* Rejects events whose metadata is "bad". Returns the metadata that it was created with. */
class PickyValidator : public diaspora::ValidatorInterface {
public:
    explicit PickyValidator(diaspora::Metadata metadata) : metadata_(std::move(metadata)) {}

    void validate(const diaspora::Metadata &metadata, const diaspora::DataView &) const override
    {
        if (metadata.json() == "bad")
            throw diaspora::Exception("picky from a library of its own");
    }

    diaspora::Metadata metadata() const override { return metadata_; }

    static std::shared_ptr<diaspora::ValidatorInterface> create(const diaspora::Metadata &metadata)
    {
        return std::make_shared<PickyValidator>(metadata);
    }

private:
    diaspora::Metadata metadata_;
};

DIASPORA_REGISTER_VALIDATOR(library, picky, PickyValidator);

} // namespace
