# The image of which `nitro-cli build-enclave` makes an enclave.
#
# Whatever is in here is measured into the enclave's PCRs. It needs a network while it is built, and
# none when it runs. Its context is a directory with five files:
#
#   inproxy, enclave-app             the binaries of `make build`
#   inproxy.toml, enclave-app.toml   as in configs/, with your addresses and your secret
#   customerCA.crt                   the certificate that signed your cluster's, from its set-up
#
#   docker build -f configs/enclave.Dockerfile --build-arg HSMS="10.0.10.103 10.0.11.27" \
#       -t cloudhsm-enclave CONTEXT

FROM public.ecr.aws/amazonlinux/amazonlinux:2023

# CloudHSM's PKCS#11 library, of client SDK 5. The newest one, so two builds may differ, and their
# PCRs with them: name a version, or keep a copy of the file, if they must not.
ARG PKCS11=https://s3.amazonaws.com/cloudhsmv2-software/CloudHsmClient/Amzn2023/cloudhsm-pkcs11-latest.amzn2023.x86_64.rpm
RUN dnf install -y "$PKCS11" \
    && dnf clean all \
    && rm -rf /var/cache/dnf /var/log/dnf*

COPY customerCA.crt /opt/cloudhsm/etc/customerCA.crt

# The addresses to begin with. From the first HSM that answers the library learns those of all the
# others, so HSMs that come later need not be here; but give it more than one, since an enclave must
# also start when one HSM is gone. All of them in one `-a`: a second would replace the first.
ARG HSMS
# One more argument for the library, such as --disable-key-availability-check: only for a cluster of
# a single HSM, whose keys cannot be used without it, and are lost with that HSM.
ARG CONFIGURE=
# The log goes to the console, and from there to the parent's `outproxy logs` if inproxy.toml has
# `application-output = true`: a file would fill the enclave's memory.
RUN test -n "$HSMS" \
    && /opt/cloudhsm/bin/configure-pkcs11 -a $HSMS \
        --hsm-ca-cert /opt/cloudhsm/etc/customerCA.crt \
        --log-type term --log-level warn \
        $CONFIGURE

COPY inproxy enclave-app /usr/bin/
COPY inproxy.toml enclave-app.toml /etc/

# A mistake in these files shows here, and not in an enclave without a console.
RUN /usr/bin/inproxy --check && /usr/bin/enclave-app --check

ENTRYPOINT ["/usr/bin/inproxy", "--", "/usr/bin/enclave-app"]
