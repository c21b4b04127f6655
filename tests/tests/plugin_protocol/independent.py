"""A client with another gRPC and another compiler of the messages: every method of every service, over one address.

usage: independent.py PROTO_FOLDER SCRATCH_FOLDER unix:PATH
       independent.py PROTO_FOLDER SCRATCH_FOLDER HOST:PORT SERVER_CERT CLIENT_KEY CLIENT_CERT

Prints one JSON object: each method's path with the code of its answer, and what Identity said.
"""

import importlib
import json
import os
import sys

import grpc
from grpc_tools import protoc


def compiled(proto, scratch):
    """Compiles all files with Google's own compiler and imports them."""
    files = sorted(name for name in os.listdir(proto) if name.endswith(".proto"))
    arguments = ["protoc", f"-I{proto}", f"--python_out={scratch}"] + [os.path.join(proto, name) for name in files]
    if protoc.main(arguments) != 0:
        sys.exit("the messages do not compile")
    sys.path.insert(0, scratch)
    return [importlib.import_module(name.replace(".proto", "_pb2")) for name in files]


def connect(arguments):
    if len(arguments) == 1:
        return grpc.insecure_channel(arguments[0])
    address, server, key, certificate = arguments
    server, key, certificate = (open(path, "rb").read() for path in (server, key, certificate))
    credentials = grpc.ssl_channel_credentials(server, key, certificate)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", "pgbackrest")])


def main():
    from google.protobuf import json_format, message_factory

    proto, scratch, *address = sys.argv[1:]
    modules = compiled(proto, scratch)
    channel = connect(address)
    codes, said = {}, {}
    for module in modules:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                request = message_factory.GetMessageClass(method.input_type)
                answer = message_factory.GetMessageClass(method.output_type)
                call = channel.unary_unary(path, request.SerializeToString, answer.FromString)
                try:
                    reply = call(request(), timeout=20, wait_for_ready=False)
                    codes[path] = "OK"
                    said[path] = json_format.MessageToDict(reply)
                except grpc.RpcError as error:
                    codes[path] = error.code().name
    print(json.dumps({"codes": codes, "said": said}))


main()
