"""Names of quirks and habits for people, with their number in the table of interoperability quirks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tongshi.protocols.gb28181.habits import Habit
from tongshi.protocols.gb28181.profile import Quirk


@dataclass(frozen=True, slots=True)
class QuirkWords:
    """``does``: what we do about it; ``acts`` says that an administrator may switch that."""

    number: int
    name: str
    does: str
    acts: bool


_ACTING: Final = {
    Quirk.FORCED_CHARSET: (1, "字符集标注与内容不符", "按指定字符集解码与发送"),
    Quirk.FOREIGN_REALM: (18, "认证所用的域（realm）与本平台不同", "按对方所写的域核对口令摘要"),
    Quirk.NO_DATE_HEADER: (22, "会被 Date 头校错时钟", "注册应答不带 Date"),
    Quirk.RFC1123_DATE: (22, "只认 RFC 1123 格式的 Date", "Date 改用 RFC 1123 格式"),
    Quirk.DUAL_HOMED: (24, "从注册地址以外的地址发来消息", "按编码而不按地址认定来源，存在冒充风险"),
    Quirk.VENDOR_RTPMAPS: (37, "点播须附带厂商负载类型", "会话描述增加 125、126、99、34"),
    Quirk.GUARD_BEFORE_ALARM: (61, "布防后才上报报警", "注册后自动布防"),
    Quirk.STREAM_PROFILE_ATTRIBUTE: (67, "以 a=streamprofile 选择码流", "点播携带 a=streamprofile"),
    Quirk.STREAM_ATTRIBUTE: (67, "以 a=stream 选择码流", "点播携带 a=stream"),
    Quirk.STREAM_MODE_ATTRIBUTE: (67, "以 a=streamMode 选择码流", "点播携带 a=streamMode"),
    Quirk.SLOW_ANSWER: (79, "点播应答慢（5 至 10 秒）", "点播等待应答的时限放宽到 20 秒"),
}
_FORGIVEN: Final = {
    Habit.WRONG_CHARSET: (1, "字符集标注与内容不符"),
    Habit.CONTROL_CHARACTERS: (3, "文本中有控制字符"),
    Habit.BARE_AMPERSAND: (4, "文本中有未转义的 &"),
    Habit.NO_SN: (7, "消息没有有效的 SN"),
    Habit.ODD_CIVIL_CODE: (9, "CivilCode 不是行政区划代码"),
    Habit.ODD_PARENTAL: (10, "Parental 不是 0 或 1"),
    Habit.ODD_STATUS: (11, "Status 不是 ON 或 OFF"),
    Habit.BARE_PTZ_TYPE: (12, "PTZType 不在 Info 之内"),
    Habit.ODD_TIME: (13, "时间格式不规范"),
    Habit.OTHER_USERNAME: (15, "认证用户名不是自身编码"),
    Habit.PORT_CHANGED: (23, "未重新注册而端口改变（NAT）"),
    Habit.NO_CONTACT: (27, "缺少 Contact"),
    Habit.NO_FROM_TAG: (28, "From 没有 tag"),
    Habit.ODD_BRANCH: (29, "Via 的 branch 不以 z9hG4bK 开头"),
    Habit.OWN_SSRC: (38, "应答的 SSRC 与请求不同或缺失"),
    Habit.MANGLED_CASE: (71, "名称大小写不规范"),
    Habit.OPAQUE_ID: (77, "通道编码不是 20 位数字"),
    Habit.CHANNEL_IN_FROM: (78, "From 写的是通道编码"),
    Habit.PRIVATE_MEDIA_ADDRESS: (80, "会话描述中的媒体地址与信令来源不同"),
}

QUIRKS: Final[dict[str, QuirkWords]] = {
    **{quirk.value: QuirkWords(*said, acts=True) for quirk, said in _ACTING.items()},
    **{habit.value: QuirkWords(*said, "宽容处理，无须设置", acts=False) for habit, said in _FORGIVEN.items()},
}
