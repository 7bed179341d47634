"""Tags as JSON. The only place where the identifiers of Tables D.1 and D.2 are spelled.

Implements: DB31DSJ/Z 001-2024 Table D.1
Implements: DB31DSJ/Z 001-2024 Table D.2
Implements: DB31DSJ/Z 001-2024 Table E.3

The flags of Table D.1 are numbers and ``TagEnable`` of Table D.2 is text, as printed. A condition over tags
is one node of {all, any, none, TagDefineCode, tagEnumCodes}: with a code it is a term, else a group.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from tongshi.errors import InvalidRequest
from tongshi.resources.tags.annotation import TagsOfDevice
from tongshi.resources.tags.expression import MAX_TERMS, Expression, Node, Term
from tongshi.resources.tags.model import (
    Define,
    DeviceTag,
    Group,
    OnDevices,
    Setting,
    TagSort,
    TagSource,
    Value,
    ValueAsked,
    ValuesAsked,
)
from tongshi.web.operations import Answer, Request
from tongshi.web.reading import decode

MAX_EXPRESSION_CHARS = 8_192
_Code = Annotated[str, Meta(max_length=64)]
_NeededCode = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(min_length=1, max_length=64)]
_Keyword = Annotated[str, Meta(max_length=64)]
_Version = Annotated[int, Meta(ge=0, le=2**53)]
_Sort = Annotated[int, Meta(ge=0, le=3)]
_Bit = Literal[0, 1]


class TagExpr(Request, frozen=True):
    """A condition over tags: nested at most four deep, at most fifty terms."""

    all: Annotated[list[TagExpr], Meta(max_length=MAX_TERMS)] = field(default_factory=list)
    any: Annotated[list[TagExpr], Meta(max_length=MAX_TERMS)] = field(default_factory=list)
    none: Annotated[list[TagExpr], Meta(max_length=MAX_TERMS)] = field(default_factory=list)
    TagDefineCode: _Code = ""
    tag_enum_codes: Annotated[list[_NeededCode], Meta(max_length=MAX_TERMS)] = field(default_factory=list)


class GroupQuery(Request, frozen=True):
    """Which groups."""

    Tagsort: _Sort | None = None
    keyword: _Keyword = ""
    with_counts: bool = False


class TagGroup(Answer, frozen=True, omit_defaults=True):
    """One group."""

    TagGroupCode: str
    TagGroupName: str
    Tagsort: int
    DispOrder: int
    version: int
    define_count: int | UnsetType = UNSET


class TagGroups(Answer, frozen=True):
    """Groups in the order in which they are shown."""

    rows: list[TagGroup] = field(name="list")


class DefineQuery(Request, frozen=True):
    """Which definitions."""

    TagGroupCode: _Code = ""
    Tagsort: _Sort | None = None
    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50


class TagDefine(Answer, frozen=True):
    """One definition; ``multiple`` says whether a device may have several of its values."""

    TagGroupCode: str
    TagDefineCode: str
    TagDefineName: str
    DispOrder: int
    CustomizedEnum: _Bit
    AllowEmpty: _Bit
    Tagsort: int
    multiple: bool
    enum_count: int
    version: int


class EnumItem(Request, frozen=True):
    """A value to be added (no code, a new text), changed, or switched on or off."""

    TagEnum: _Text
    tag_enum_code: _Code = ""
    TagEnable: Literal["0", "1"] = "1"
    disp_order: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class EnumsBody(Request, frozen=True):
    """Values of one definition; ``replace`` switches off those that are not among them.

    ``onDevices`` says what becomes of devices that bear what is switched off; it is asked for when there are.
    """

    TagDefineCode: _NeededCode
    items: Annotated[list[EnumItem], Meta(max_length=1_000)]
    mode: Literal["upsert", "replace"] = "upsert"
    on_devices: OnDevices | None = None
    move_to: _Code = ""
    if_version: _Version | None = None


class TagEnumShown(Answer, frozen=True):
    """One value."""

    TagGroupCode: str
    TagDefineCode: str
    TagEnum: str
    TagEnable: Literal["0", "1"]
    tag_enum_code: str
    disp_order: int
    version: int


class EnumConflict(Answer, frozen=True):
    """A value that was left alone, and why."""

    TagEnum: str
    tag_enum_code: str
    code: int
    reason: str


class EnumsSaved(Answer, frozen=True):
    """What became of the values; ``version`` is that of the definition."""

    saved: list[TagEnumShown]
    disabled: list[str]
    conflicts: list[EnumConflict]
    version: int


class DeviceTagShown(Answer, frozen=True):
    """A value that a device bears."""

    DeviceID: str
    TagDefineCode: str
    tag_enum_code: str
    TagEnum: str
    source: TagSource
    annotator: str
    time: datetime
    version: int


class TagsByGroup(Answer, frozen=True):
    """What a device bears of one definition."""

    group: str
    define: TagDefine
    values: list[DeviceTagShown]


class DeviceTags(Answer, frozen=True):
    """What a device bears; ``missingMandatory`` are definitions that may not be empty and are."""

    DeviceID: str
    tags: list[TagsByGroup]
    missing_mandatory: list[str]
    version: int


class SettingBody(Request, frozen=True):
    """Values of one definition, by code or by text."""

    TagDefineCode: _NeededCode
    tag_enum_codes: Annotated[list[_NeededCode], Meta(max_length=200)] = field(default_factory=list)
    TagEnum: Annotated[list[_Text], Meta(max_length=200)] = field(default_factory=list)


class AnnotationDone(Answer, frozen=True):
    """What was done, or with ``dryRun`` what would be; the token undoes it for a day."""

    matched: int
    changed: int
    unchanged: int
    failed: list[FailedDevice]
    undo_token: str


class FailedDevice(Answer, frozen=True):
    """A device that was left alone, and why."""

    DeviceID: str
    code: int


class UndoBody(Request, frozen=True):
    """The token of an annotation."""

    undo_token: _NeededCode


class Undone(Answer, frozen=True):
    """``left`` devices kept what they bear, because their tags were changed since."""

    restored: int
    left: int


def expression(asked: TagExpr, name: str) -> Expression:
    """The condition that a node is. Raises InvalidRequest when it is a term and a group at once."""
    is_term = bool(asked.TagDefineCode or asked.tag_enum_codes)
    if is_term and (asked.all or asked.any or asked.none):
        raise InvalidRequest("标签条件不能同时是条件组和单个条件", field=name)
    if is_term:
        return Term(asked.TagDefineCode, tuple(asked.tag_enum_codes))
    return Node(
        *(tuple(expression(one, name) for one in part) for part in (asked.all, asked.any, asked.none))
    )


def expression_of(text: str) -> TagExpr:
    """A condition written as JSON in a query string. Raises InvalidRequest."""
    try:
        return decode(text.encode(), TagExpr)
    except InvalidRequest as error:
        raise InvalidRequest(f"tagExpr {error.message}", field="tagExpr") from error


def group(found: Group) -> TagGroup:
    """One group without counts."""
    return TagGroup(found.code, found.name, int(found.sort), found.position, found.revision)


def define(found: Define, count: int) -> TagDefine:
    """One definition."""
    return TagDefine(
        TagGroupCode=found.group_code,
        TagDefineCode=found.code,
        TagDefineName=found.name,
        DispOrder=found.position,
        CustomizedEnum=1 if found.is_customised else 0,
        AllowEmpty=1 if found.allows_empty else 0,
        Tagsort=int(found.sort),
        multiple=found.is_multiple,
        enum_count=count,
        version=found.revision,
    )


def value(found: Value, group_code: str) -> TagEnumShown:
    """One value."""
    return TagEnumShown(
        TagGroupCode=group_code,
        TagDefineCode=found.define_code,
        TagEnum=found.text,
        TagEnable="1" if found.is_enabled else "0",
        tag_enum_code=found.code,
        disp_order=found.position,
        version=found.revision,
    )


def device_tag(found: DeviceTag, values: dict[str, Value]) -> DeviceTagShown:
    """A value that a device bears."""
    return DeviceTagShown(
        DeviceID=found.device_id,
        TagDefineCode=found.define_code,
        tag_enum_code=found.value_code,
        TagEnum=values[found.value_code].text,
        source=found.source,
        annotator=found.annotator,
        time=found.at,
        version=found.revision,
    )


def device_tags(
    device_id: str, found: TagsOfDevice, groups: dict[str, str], counts: dict[str, int]
) -> DeviceTags:
    """What a device bears, by group and definition in order; ``groups`` are names by code."""
    borne = {one.define_code for one in found.tags}
    return DeviceTags(
        device_id,
        [
            TagsByGroup(
                groups.get(one.group_code, one.group_code),
                define(one, counts.get(one.code, 0)),
                [device_tag(tag, found.values) for tag in found.tags if tag.define_code == one.code],
            )
            for one in found.defines
            if one.code in borne
        ],
        [one.code for one in found.defines if not one.allows_empty and one.code not in borne],
        found.revision,
    )


def values_asked(body: EnumsBody) -> ValuesAsked:
    """What a body asks for. Raises InvalidRequest for a text that is blank or no text."""
    items = []
    for number, one in enumerate(body.items):
        text = one.TagEnum.strip()
        if not text or not text.isprintable():
            raise InvalidRequest("标签枚举不能为空或含控制字符", field=f"items[{number}].TagEnum")
        items.append(ValueAsked(one.tag_enum_code, text, one.TagEnable == "1", one.disp_order))
    if (body.on_devices is OnDevices.MOVE) != bool(body.move_to):
        raise InvalidRequest("onDevices 为 moveTo 时须给出 moveTo", field="moveTo")
    return ValuesAsked(
        body.TagDefineCode,
        tuple(items),
        body.mode == "replace",
        body.on_devices,
        body.move_to,
        body.if_version,
    )


def setting(body: SettingBody) -> Setting:
    """What is to be set of one definition."""
    return Setting(body.TagDefineCode, tuple(body.tag_enum_codes), tuple(body.TagEnum))


def tag_sort(number: int | None) -> TagSort | None:
    """The class of a number."""
    return None if number is None else TagSort(number)
