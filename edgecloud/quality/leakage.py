"""Signs that a caption goes on with a conversation: roles, preambles, offers and questions to the user.

What the caption quotes is the speaker's own and no leak: "She says 'Sure, I can help you'".
"""

from __future__ import annotations

import re
from typing import Final

from edgecloud.quality.fold import fold, simplified
from edgecloud.quality.scope import without_quotes
from edgecloud.quality.scoping import FILLER, blank

__all__ = ["is_chat_leakage"]

_FLAGS: Final = re.IGNORECASE | re.MULTILINE
_TAGS: Final = re.compile(
    r"<\|(?:im_start|im_end|endoftext|user|assistant|system)\|?>?|\[/?INST\]|<</?SYS>>", _FLAGS
)
_ROLES: Final = re.compile(
    # A role's name that opens the text, a sentence or a line and is followed by a colon.
    rf"(?:^|[\n.!?。！？\"'{FILLER}])\s*(?:Human|User|Assistant|System|AI|用户|助手|人类|系统)\s*[:：]"
    # The names as they leak where the tags around them were not shown; "human voice" and "the
    # Assistant Manager" are no leak.
    r"|(?-i:(?<![A-Za-z])(?<!\bthe )(?<!\ban )(?<!\bThe )(?<!\bAn )(?<!\ba )(?<!\bA )"
    r"(?:Human|Assistant)(?!\s+[A-Za-z]|[a-z]|['-]))"
    r"|(?:^|\n)\s*(?:user|assistant|system)\s*(?:\n|$)",
    _FLAGS,
)
_KINDS: Final = (
    r"(?:captions?|descriptions?|transcriptions?|transcripts?|summary|summaries|versions?|answers?"
    r"|responses?|rewrites?|rewording|sentences?|translations?|analysis|paraphrases?|suggestions?|options?)"
)
_OPENER: Final = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|no problem|got it|alright|all right"
    r"|(?:great|good|excellent|interesting) (?:question|choice|point)|great|yes|thanks|thank you|understood"
    r"|noted|my pleasure|gladly)"
)
# What a caption itself begins with, unless it goes on with what somebody says: "Sure, he says, calm".
_CAPTION: Final = (
    r"(?:(?:in |from )?(?:the|this|a|an) (?:\w+ ){0,2}?(?:speaker|voice|audio|clip|recording|tone|man|woman"
    r"|boy|girl|person|lady|sentence)\b(?:'s \w+)?|(?:he|she|they)\b(?= (?:sounds?|seems?|is|are|speaks?|appears?)\b))"
    r"(?!(?: \w+ly)?,? (?:say|said|repl|answer|ask|shout|whisper|exclaim|agree|nod|mutter|respon|add|call|cr(?:y|ies)|is say)\w*)"
)
_START: Final = rf"(?:^|[.!?\n{FILLER}]\s*)"
_ENGLISH: Final = re.compile(
    # Preambles.
    rf"\A\W*{_OPENER}\b\s*[!,.:–—-]+\s*(?:here|below|this is|the following|i\b|let me|let's|based on|you|{_CAPTION})"
    r"|\A\W*(?:here(?:'s| is) what i)\b"
    rf"|{_START}(?:so,? |well,? )?(?:here(?:'s| is| are)|below (?:is|are)|the following (?:is|are))\s"
    rf"[^.!?:\n]{{0,60}}?\b{_KINDS}\b"
    rf"|{_START}(?:this is|these are) (?:the|a|my|your) (?:\w+ ){{0,2}}{_KINDS}\b\s*(?:of the|:|for|you)"
    r"|\A\W*(?:(?:the|my|final|audio|short|new)\s+){0,2}(?:(?:caption|description|answer|response|output|result)\W{0,2}:"
    r"|(?:caption|description|output|result) (?:is|would be|could be|reads)\s*:)"
    rf"|{_START}(?:please )?note(?: that |: ?|, ?)(?:that )?(?:this|the|my|these) (?:\w+ )?{_KINDS}\b"
    r"|\bbased on the (?:provided|given|supplied|uploaded|attached) "
    r"|\byou(?:'ve| have)? (?:provided|shared|uploaded|sent|gave me|given me|requested|asked for)\b"
    r"|\bthank(?:s| you) for (?:providing|sharing|uploading|sending|the audio|your)"
    # Offers and questions to the user.
    r"|\b(?:(?:any|some)thing else (?:i|you)|how (?:can|may|else can) i (?:help|assist)"
    r"|(?:do|would|did|are|have) you (?:have|like|want|need|think|agree|know|interested|noticed|ever)\b"
    r"[^.!?]{0,200}\?|(?:would|do) you (?:like|want|need) me to|what (?:do|would) you (?:think|like)"
    r"|(?:please )?(?:feel free|let me know|don't hesitate)|if you(?:'d| would)? (?:have any|need any|need (?:more|me|"
    r"further|anything|a)|like (?:me|more|any|a|another|to)|want (?:me|more|any|another))"
    r"|(?:shall|should|can|could) i (?:\w+ ){0,2}(?:make|write|rewrite|provide|help|shorten|change|translate|describe)"
    r"|(?:i )?hope (?:this|that|it|the above) (?:\w+ )?(?:helps|help|is helpful|meets|works|is what)"
    r"|i(?:'d| would|'ll| will|'m| am) (?:be )?(?:\w+ )?(?:happy|glad|pleased|delighted) to)"
    # The model of itself.
    r"|\b(?:i'm|i am) (?:\w+ly )?(?:sorry|unable|not able|afraid i|an? (?:ai|language model|large|assistant|text))"
    r"|\bas an? (?:\w+ ){0,2}(?:ai\b|language model|assistant,)"
    r"|\bi (?:can't|cannot|can not|could not|couldn't|do not have|don't have|am only|apologi[sz]e)\b"
    r"|\bmy apologies\b|\bplease (?:provide|upload|share|send|note that i|specify)\b",
    _FLAGS,
)
_KINDS_ZH: Final = "(?:描述|字幕|标题|说明|句子|版本|结果|回答|答案|转写|文案|翻译|总结|概括|分析|改写|建议|选项|内容)"
_CHINESE: Final = re.compile(
    # Preambles.
    r"\A\W*(?:好的|好|好啊|当然(?:可以|没问题)?|没问题|没有问题|可以的?|明白了?|收到|了解|是的|嗯|您好|你好)"
    "[，,！!。.、：:~～]\\s*(?:以下|下面|这[是里段个]|根据|我|让我|请|您|你|现在|为|描述如下|该)"
    # Followed by what a caption itself begins with.
    "|\\A\\W*(?:好的|当然(?:可以|没问题)?|没问题|没有问题|明白了?|收到|了解了?)[，,！!。.~～]\\s*(?:语气|语调|语速|声音|音调|嗓音|情绪|口吻"
    "|(?:说话[人者]|发言人|他|她|(?:这|那)?(?:一)?[位名个](?:[^，。！？]{0,6})[人士子生孩])(?!们?[^，。！？]{0,6}[说道问喊答应叫]))"
    f"|(?:以下|下面|如下)(?:就?是|为|的)?[^。！？，]{{0,16}}?{_KINDS_ZH}"
    "|\\A\\W*(?:(?:音频|语音|录音|情感|情绪|声音|最终|简短|中文|我)的?){0,2}(?:描述|字幕|文案|输出|结果|回答|答案)\\W{0,2}[:：]"
    "|以上(?:就)?(?:是|为)(?=[^。！？]{0,20}(?:音频|录音|语音|片段|字幕|转写|文案|描述))[^。！？]{0,24}(?:描述|分析|总结|概括|说明|转写|字幕|文案|翻译)"
    f"|(?:描述|字幕|改写|翻译|结果|回答)如下|这里?(?:是|有)(?:我?[为给]?(?:您|你)|我[为给]|改写|修改)"
    "|(?:您|你)所?(?:提供|上传|发送|发来|给出|分享|给|要求|需要|要)的?(?:这段|那段)?(?:音频|录音|语音|文件|内容|片段|信息|描述|字幕|声音|文本)"
    "|(?<!像)(?<!像在)(?<!在)(?:为|给|帮)(?:您|你)(?:生成|描述|整理|提供|改写|写|总结|翻译|服务|解答|修改|分析|效劳)|供(?:您|你)(?:选择|参考)"
    "|我(?:会|将)?(?:很|非常|十分)?(?:乐意|高兴|愿意|荣幸)(?:能|地)?(?:为|帮)|很高兴(?:能)?(?:为您|为你|帮助)"
    # Offers and questions to the user.
    "|需要我[^。！？]{0,20}(?:吗|么|？|[?])|要不要我|以上(?:就)?是我|(?:还)?需要(?:其他|其它|别的|更多)[^。！]{0,10}[?？吗]|(?:是否|要)?需要(?:我)?(?:进一步|更多|再)[^。！]{0,16}[?？吗]"
    "|(?:如果|如|若|要是|假如)[^。！？]{0,16}(?:问题|需要|修改|疑问|帮助|要求|需求|调整|不满意|不清楚)[^。！？]{0,16}(?:告诉|告知|联系|提出|问|说|提问|指出|留言)"
    "|(?:随时|欢迎|尽管|请)(?:随时|再|继续)?(?:告诉|告知|联系|询问|问)我|可以(?:再|随时|继续)?(?:告诉|问|联系)我"
    "|欢迎(?:随时|继续)?(?:提问|提出|追问)"
    "|(?:您|你)(?:还|还有|有|要是)?(?:什么|任何|其他|别的|更多)?[^。！？]{0,12}(?:随时|尽管)[^。！？]{0,6}(?:告诉|问|联系|提)"
    "|(?:你|您)(?:觉得|认为|想|还想|能|可以|知道|有没有|有什么|还有|需要|希望)[^。！]{0,24}[?？]"
    "|(?:还有|有)(?:什么|其他|别的)[^。！]{0,12}(?:吗|呢)?[?？]|有什么(?:可以|能)(?:帮|为)"
    "|希望(?:这|以上|对|能|我的)[^。！？]{0,10}(?:有帮助|有所帮助|帮到|帮助到|有用|满意)"
    # The model of itself.
    "|作为(?:一[个名款位])?(?:AI|人工智能|语言模型|大语言模型|大模型|智能助手|语音助手|助手)|我(?:是|只是)(?:一[个名款])?(?:AI|人工智能|语言模型|大模型|智能助手)"
    "|(?:抱歉|对不起|不好意思|遗憾)[，,！。]?\\s*(?:但)?我(?:无法|不能|没|听不)"
    "|我(?:目前|暂时|现在|并)?(?:无法|不能|没办法|没有办法)(?:直接|准确)?(?:听|处理|访问|识别|判断|播放|获取|分析|确定|提供|打开|回答|帮|描述)"
    "|请(?:您|你)?(?:先|重新)?(?:提供|上传|发送|补充)",
    _FLAGS,
)
# Speech that is reported without quotes.
_REPORTED: Final = re.compile(
    r"\b(?:says?|saying|said|asks?|asking|asked|shout(?:s|ing|ed)|whisper(?:s|ing|ed)|repl(?:y|ies|ied)|answer(?:s|ing|ed)"
    r"|repeat(?:s|ing|ed)|exclaim(?:s|ing|ed)|the words?|the phrase)\s*[,:]?\s+(?:that )?(?=i\b|i'|can i|how|may i|would|do you|did you|let me"
    r"|feel|is there|are you|have you|what|if you|please|sure|of course|thank)[^.!?]*[.!?]?"
    "|(?:说道|问道|喊道|答道|询问|说|(?<!请)问|喊|答)(?:了?一?句)?[:：，]?(?=你|您|我|有什么|还有|需要|请|当然|好的)[^。！？?!]*[。！？?!]?",
    _FLAGS,
)


def is_chat_leakage(text: str) -> bool:
    """The text holds a role's name or tag, a preamble, an offer of help, a question to the user, or
    the model speaking of itself, outside what it quotes.

    A literal ``<|im_end|>`` at the very end is the model's full stop, not leakage.

    >>> is_chat_leakage("Sure! Here is the caption: a calm voice.")
    True
    >>> is_chat_leakage("他说“当然可以”，语气十分爽快。")
    False
    """
    text = simplified(fold(text.strip().removesuffix("<|im_end|>")))
    if _TAGS.search(text):
        return True
    text = without_quotes(text)
    if _ROLES.search(text):
        return True
    text = blank(_REPORTED, text)
    return any(pattern.search(text) for pattern in (_ENGLISH, _CHINESE))
