"""What a message means, in words for an operator.

Read leniently and never trusted: what cannot be understood is named by its first line.
"""

from __future__ import annotations

from typing import Final

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.ssrc import text10
from tongshi.protocols.sip.message import Request, Response, parse

COMMANDS: Final = {
    "catalog": "设备目录",
    "deviceinfo": "设备信息",
    "devicestatus": "设备状态",
    "recordinfo": "录像检索",
    "alarm": "报警",
    "keepalive": "心跳",
    "configdownload": "设备配置",
    "deviceconfig": "设备配置",
    "presetquery": "预置位",
    "persetquery": "预置位",
    "mobileposition": "移动位置",
    "homepositionquery": "看守位",
    "cruisetracklistquery": "巡航轨迹列表",
    "cruisetrackquery": "巡航轨迹",
    "ptzposition": "云台精准状态",
    "sdcardstatus": "存储卡状态",
    "devicecontrol": "设备控制",
    "mediastatus": "媒体状态",
    "broadcast": "语音广播",
    "videouploadnotify": "视音频回传",
    "uploadsnapshotfinished": "抓拍上传完成",
    "deviceupgraderesult": "升级结果",
}
_CONTROLS: Final = {
    "ptzcmd": "云台控制",
    "teleboot": "远程启动",
    "recordcmd": "录像控制",
    "guardcmd": "布撤防",
    "alarmcmd": "报警复位",
    "iframecmd": "强制关键帧",
    "ifamecmd": "强制关键帧",
    "dragzoomin": "拉框放大",
    "dragzoomout": "拉框缩小",
    "homeposition": "看守位控制",
    "ptzprecisectrl": "云台精准控制",
    "deviceupgrade": "软件升级",
    "formatsdcard": "存储卡格式化",
    "targettrack": "目标跟踪",
}
_ROOTS: Final = {"query": "查询", "control": "命令", "notify": "通知", "response": "应答"}
_SESSIONS: Final = {
    SessionName.PLAY: "实时点播",
    SessionName.PLAYBACK: "历史回放",
    SessionName.DOWNLOAD: "录像下载",
    SessionName.TALK: "语音对讲",
}
_METHODS: Final = {
    "ACK": "确认应答，呼叫建立",
    "BYE": "挂断",
    "CANCEL": "取消呼叫",
    "OPTIONS": "询问能力",
    "INFO": "会话内控制",
}
_STATUSES: Final = {
    100: "已收到，正在处理",
    180: "振铃",
    183: "会话进行中",
    200: "成功",
    202: "已接受",
    302: "改向其他服务器",
    400: "请求格式错误",
    401: "要求认证",
    403: "拒绝（未授权或认证失败）",
    404: "没有该设备或无权访问",
    405: "不支持该方法",
    407: "要求认证",
    408: "等待超时",
    413: "消息过大",
    415: "不支持该内容类型",
    420: "不支持所要求的扩展",
    423: "注册有效期过短",
    480: "暂时不可用（设备不在线）",
    481: "会话或订阅不存在",
    482: "检测到环路",
    483: "转发次数过多",
    486: "忙（路数已满）",
    487: "呼叫已取消",
    488: "媒体参数不被接受",
    489: "不支持该订阅事件",
    491: "请求冲突，稍后再试",
    500: "对端内部错误",
    501: "对端未实现",
    503: "服务不可用",
    504: "网关超时",
    513: "消息过大",
    603: "拒绝",
}
_MANSRTSP: Final = {"PLAY": "播放", "PAUSE": "暂停", "TEARDOWN": "停止", "OPTIONS": "询问"}


def parsed(data: bytes) -> Request | Response | None:
    """The message, None when it is none."""
    try:
        return parse(data)
    except RemoteViolation:
        return None


def first_line(data: bytes) -> str:
    """Request or status line, at most 256 characters."""
    return data.lstrip(b"\r\n")[:512].partition(b"\n")[0].rstrip(b"\r").decode("latin-1")[:256]


def meaning(message: Request | Response | None) -> str:
    """One message in words."""
    if message is None:
        return "无法识别的消息"
    if isinstance(message, Response):
        return _response(message)
    return _request(message)


def _request(request: Request) -> str:
    method = request.method
    if method == "REGISTER":
        return _register(request)
    if method == "INVITE":
        return _offer(request.body)
    if method in ("MESSAGE", "NOTIFY", "SUBSCRIBE"):
        said = body_words(request.body)
        if method == "SUBSCRIBE":
            ends = request.headers.get("Expires") == "0"
            return f"{'取消' if ends else ''}订阅{said.removesuffix('查询') or request.headers.get('Event')}"
        if method == "NOTIFY":
            return said or f"订阅通知（{request.headers.get('Subscription-State')[:40]}）"
        return said or "消息"
    if method == "INFO":
        return _playback_control(request.body)
    return _METHODS.get(method, method)


def _register(request: Request) -> str:
    try:
        is_leaving = request.expires == 0
    except RemoteViolation:
        is_leaving = False
    said = "注销" if is_leaving else "注册"
    return f"{said}请求（携带认证）" if request.headers.get("Authorization") else f"{said}请求"


def _response(response: Response) -> str:
    said = (
        _STATUSES.get(response.status)
        or f"{'成功' if response.is_success else '失败'}（{response.reason[:60]}）"
    )
    try:
        method = response.cseq.method
        lifetime = response.expires
    except RemoteViolation:
        method, lifetime = "", None
    if method == "REGISTER" and response.is_success:
        said = "注销成功" if lifetime == 0 else f"注册成功{_seconds(lifetime)}"
    elif method == "SUBSCRIBE" and response.is_success:
        said = f"订阅成功{_seconds(lifetime)}"
    elif method == "INVITE" and response.is_success:
        said = _answer(response.body)
    elif method == "BYE" and response.is_success:
        said = "挂断完成"
    elif response.is_success and response.body:
        said = f"{said}；{body_words(response.body)}"
    code = response.headers.get("Warning")
    hint = f"；对端说明：{code[:80]}" if code and not response.is_success else ""
    return f"{response.status} {said}{hint}"


def _seconds(lifetime: int | None) -> str:
    return "" if lifetime is None else f"，有效期 {lifetime} 秒"


def _offer(body: bytes) -> str:
    offer = _sdp(body)
    if offer is None:
        return "呼叫（没有可识别的会话描述）" if body else "呼叫（未携带会话描述）"
    session = _SESSIONS.get(offer.session_name, "呼叫")
    ssrc = f"，SSRC {text10(offer.ssrc)}" if offer.ssrc is not None else "，未指定 SSRC"
    return f"{session}请求：媒体收发地址 {offer.address}:{offer.port}，{_way(offer)}{ssrc}"


def _answer(body: bytes) -> str:
    answer = _sdp(body)
    if answer is None:
        return "接受呼叫，但会话描述无法识别"
    ssrc = f"，SSRC {text10(answer.ssrc)}" if answer.ssrc is not None else "，应答中没有 SSRC"
    return f"接受呼叫：媒体地址 {answer.address or '未说明'}:{answer.port}，{_way(answer)}{ssrc}"


def _way(sdp: Sdp) -> str:
    if not sdp.is_tcp:
        return "UDP"
    return {"passive": "TCP（被动）", "active": "TCP（主动）"}.get(sdp.setup or "", "TCP")


def _sdp(body: bytes) -> Sdp | None:
    try:
        return parse_sdp(body) if body else None
    except RemoteViolation:
        return None


def _playback_control(body: bytes) -> str:
    lines = body[:2048].decode("latin-1").splitlines()
    verb = lines[0].split(" ")[0].upper() if lines else ""
    said = _MANSRTSP.get(verb, "会话内控制")
    details = [line.strip() for line in lines[1:] if line.lower().startswith(("scale", "range"))]
    return f"回放控制：{said}" + (f"（{'，'.join(details)[:80]}）" if details else "")


def body_words(body: bytes) -> str:
    """A MANSCDP body in words; "" when there is none."""
    if not body:
        return ""
    try:
        root = xml.parse(body).root
    except RemoteViolation:
        return "无法识别的内容"
    kind = xml.local_name(root.element).lower()
    command = root.text("cmdtype")
    if kind == "control" and command.lower() == "devicecontrol":
        return next((said for name, said in _CONTROLS.items() if root.child(name)), "设备控制命令")
    said = f"{COMMANDS.get(command.lower(), command or '未知命令')}{_ROOTS.get(kind, '')}"
    return said + _facts(root, kind, command)


def _facts(root: xml.Reader, kind: str, command: str) -> str:
    """The numbers that people look for."""
    facts = []
    total = root.integer("sumnum")
    if total is not None:
        items = root.child("devicelist", "recordlist", "presetlist")
        count = items.attribute("num") if items is not None else ""
        facts.append(f"共 {total} 条" + (f"，本消息 {count} 条" if count else ""))
    result = root.text("result")
    if result:
        facts.append("结果成功" if result.upper() == "OK" else f"结果 {result[:32]}")
    reason = root.text("reason")
    if reason:
        facts.append(reason[:80])
    if command.lower() == "keepalive" and root.text("status").upper() not in ("OK", ""):
        facts.append(f"状态 {root.text('status')[:16]}")
    if kind == "notify" and command.lower() == "mediastatus":
        facts.append({"121": "历史媒体发送结束"}.get(root.text("notifytype"), root.text("notifytype")[:16]))
    return f"（{'；'.join(facts)}）" if facts else ""
