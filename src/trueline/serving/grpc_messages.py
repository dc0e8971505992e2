"""The messages of Open Inference over gRPC, as classes of google.protobuf, made at import from the table below.

A field reads `name=number:type`; `*` is a repeated field, `{…}` a map from text, and `?` a member of the message's
oneof `parameter_choice`. Names, numbers and types are the protocol's, and with the extension of repositories those of
Triton and of KServe, whose two forms of it share the wire: a test compares the table with the stubs of both.

The descriptors live in a pool of their own, so a program may load another definition of the same package beside this.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"

TABLE = """
ServerLiveRequest
ServerLiveResponse            live=1:bool
ServerReadyRequest
ServerReadyResponse           ready=1:bool
ModelReadyRequest             name=1:string version=2:string
ModelReadyResponse            ready=1:bool
ServerMetadataRequest
ServerMetadataResponse        name=1:string version=2:string extensions=3:string*
ModelMetadataRequest          name=1:string version=2:string
ModelMetadataResponse         name=1:string versions=2:string* platform=3:string inputs=4:.TensorMetadata*
                              outputs=5:.TensorMetadata* properties=6:{string}
 .TensorMetadata              name=1:string datatype=2:string shape=3:int64*
ModelInferRequest             model_name=1:string model_version=2:string id=3:string parameters=4:{InferParameter}
                              inputs=5:.InferInputTensor* outputs=6:.InferRequestedOutputTensor*
                              raw_input_contents=7:bytes*
 .InferInputTensor            name=1:string datatype=2:string shape=3:int64* parameters=4:{InferParameter}
                              contents=5:InferTensorContents
 .InferRequestedOutputTensor  name=1:string parameters=2:{InferParameter}
ModelInferResponse            model_name=1:string model_version=2:string id=3:string parameters=4:{InferParameter}
                              outputs=5:.InferOutputTensor* raw_output_contents=6:bytes*
 .InferOutputTensor           name=1:string datatype=2:string shape=3:int64* parameters=4:{InferParameter}
                              contents=5:InferTensorContents
InferParameter                bool_param=1:bool? int64_param=2:int64? string_param=3:string? double_param=4:double?
                              uint64_param=5:uint64?
InferTensorContents           bool_contents=1:bool* int_contents=2:int32* int64_contents=3:int64*
                              uint_contents=4:uint32* uint64_contents=5:uint64* fp32_contents=6:float*
                              fp64_contents=7:double* bytes_contents=8:bytes*
RepositoryIndexRequest        repository_name=1:string ready=2:bool
RepositoryIndexResponse       models=1:.ModelIndex*
 .ModelIndex                  name=1:string version=2:string state=3:string reason=4:string
RepositoryModelLoadRequest    repository_name=1:string model_name=2:string parameters=3:{ModelRepositoryParameter}
RepositoryModelLoadResponse   model_name=1:string isLoaded=2:bool
RepositoryModelUnloadRequest  repository_name=1:string model_name=2:string parameters=3:{ModelRepositoryParameter}
RepositoryModelUnloadResponse model_name=1:string isUnloaded=2:bool
ModelRepositoryParameter      bool_param=1:bool? int64_param=2:int64? string_param=3:string? bytes_param=4:bytes?
"""

_Message = descriptor_pb2.DescriptorProto
_Field = descriptor_pb2.FieldDescriptorProto


def _file(table: str) -> Any:
    """The table as the descriptor of a .proto file."""
    file = descriptor_pb2.FileDescriptorProto(name="trueline/open_inference.proto", package=PACKAGE, syntax="proto3")
    outer: Any = None
    message: Any = None
    for line in table.strip().splitlines():
        words = line.split()
        if not line.startswith("  "):  # a message, or one inside the message before it
            name = words.pop(0)
            nested = name.startswith(".")
            message = outer.nested_type.add(name=name[1:]) if nested else file.message_type.add(name=name)
            outer = outer if nested else message
        for word in words:
            _add_field(message, word, f".{PACKAGE}.{outer.name}")
    return file


def _add_field(message: Any, word: str, outer: str) -> None:
    name, _, rest = word.partition("=")
    number, _, kind = rest.partition(":")
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif kind.endswith("*"):
        field.label = _Field.LABEL_REPEATED
    elif kind.startswith("{"):
        field.label = _Field.LABEL_REPEATED
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _set_type(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), "string", outer)
        _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), kind.strip("{}"), outer)
        kind = f".{message.name}.{entry.name}" if outer.rpartition(".")[2] != message.name else f".{entry.name}"
    _set_type(field, kind.rstrip("*?"), outer)


def _set_type(field: Any, kind: str, outer: str) -> None:
    scalar = f"TYPE_{kind.upper()}"
    if scalar in _Field.Type.keys():  # noqa: SIM118  an enum wrapper, not a dict
        field.type = _Field.Type.Value(scalar)
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = outer + kind if kind.startswith(".") else f".{PACKAGE}.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file(TABLE))
MESSAGES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    for name in (line.split()[0] for line in TABLE.strip().splitlines() if not line.startswith(" "))
}
"""Classes of the messages that stand for themselves, by name."""
