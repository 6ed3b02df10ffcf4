"""Small closed grammars: the spelling alphabet, and names, verbs, numbers, colours and days in ten languages."""

import dataclasses

import numpy as np

# ICAO spelling alphabet, spelt as in the CMU pronouncing dictionary that pocketsphinx bundles (all 26 are in it).
NATO_WORDS: tuple[str, ...] = (
    *(
        "alpha",
        "bravo",
        "charlie",
        "delta",
        "echo",
        "foxtrot",
        "golf",
        "hotel",
        "india",
        "juliet",
        "kilo",
        "lima",
        "mike",
    ),
    *("november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey", "x-ray"),
    *("yankee", "zulu"),
)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words of one language, by part of a phrase. `verbs` are intransitive and agree with one name."""

    names: tuple[str, ...]
    verbs: tuple[str, ...]
    numbers: tuple[str, ...]
    colours: tuple[str, ...]
    days: tuple[str, ...]
    conjunction: str
    separator: str = " "

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.names, *self.verbs, *self.numbers, *self.colours, *self.days, self.conjunction)


def _vocabulary(
    names: str, verbs: str, numbers: str, colours: str, days: str, conjunction: str, separator: str = " "
) -> Vocabulary:
    return Vocabulary(
        tuple(names.split()),
        tuple(verbs.split()),
        tuple(numbers.split()),
        tuple(colours.split()),
        tuple(days.split()),
        conjunction,
        separator,
    )


# Japanese is written in kana with spaces between words, as for young readers: espeak-ng spells out kanji and needs the
# spaces for word times.
VOCABULARIES: dict[str, Vocabulary] = {
    "zh": _vocabulary(
        "小明 小红 王老师 李先生 张医生",
        "唱歌 跳舞 睡觉 跑步 看书",
        "一 二 三 四 五 六 七 八 九 十",
        "红色 蓝色 绿色 黄色 白色 黑色",
        "星期一 星期二 星期三 星期四 星期五 星期六 星期天",
        "和",
        separator="",
    ),
    "en": _vocabulary(
        "anna peter mary thomas susan",
        "sings dances sleeps runs reads",
        "one two three four five six seven eight nine ten",
        "red blue green yellow white black",
        "monday tuesday wednesday thursday friday saturday sunday",
        "and",
    ),
    "ja": _vocabulary(
        "たろう はなこ けんじ ゆみこ さくら",
        "うたう おどる ねむる はしる よむ",
        "いち に さん よん ご ろく なな はち きゅう じゅう",
        "あか あお みどり きいろ しろ くろ",
        "げつようび かようび すいようび もくようび きんようび どようび にちようび",
        "と",
    ),
    "ko": _vocabulary(
        "민수 지영 철수 영희 서연",
        "노래한다 춤춘다 잔다 달린다 읽는다",
        "일 이 삼 사 오 육 칠 팔 구 십",
        "빨강 파랑 초록 노랑 하양 검정",
        "월요일 화요일 수요일 목요일 금요일 토요일 일요일",
        "그리고",
    ),
    "de": _vocabulary(
        "Anna Jürgen Maria Thomas Käthe",
        "singt tanzt schläft läuft liest",
        "eins zwei drei vier fünf sechs sieben acht neun zehn",
        "rot blau grün gelb weiß schwarz",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        "und",
    ),
    "fr": _vocabulary(
        "Anne Pierre Hélène Thomas François",
        "chante danse dort court lit",
        "un deux trois quatre cinq six sept huit neuf dix",
        "rouge bleu vert jaune blanc noir",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "et",
    ),
    "ru": _vocabulary(
        "Анна Пётр Мария Иван Ольга",
        "поёт танцует спит бежит читает",
        "один два три четыре пять шесть семь восемь девять десять",
        "красный синий зелёный жёлтый белый чёрный",
        "понедельник вторник среда четверг пятница суббота воскресенье",
        "и",
    ),
    "pt": _vocabulary(
        "Ana Pedro Maria João Luísa",
        "canta dança dorme corre lê",
        "um dois três quatro cinco seis sete oito nove dez",
        "vermelho azul verde amarelo branco preto",
        "segunda terça quarta quinta sexta sábado domingo",
        "e",
    ),
    "es": _vocabulary(
        "Ana Pedro María José Lucía",
        "canta baila duerme corre lee",
        "uno dos tres cuatro cinco seis siete ocho nueve diez",
        "rojo azul verde amarillo blanco negro",
        "lunes martes miércoles jueves viernes sábado domingo",
        "y",
    ),
    "it": _vocabulary(
        "Anna Pietro Maria Giuseppe Lucia",
        "canta balla dorme corre legge",
        "uno due tre quattro cinque sei sette otto nove dieci",
        "rosso blu verde giallo bianco nero",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "e",
    ),
}

# Phrases as fields of Vocabulary: a sentence is a run of them with the wanted number of words.
_PHRASES: tuple[tuple[str, ...], ...] = (
    ("names",),
    ("numbers",),
    ("colours",),
    ("days",),
    ("names", "verbs"),
    ("names", "conjunction", "names"),
    ("numbers", "conjunction", "numbers"),
    ("days", "names", "verbs"),
)


def nato_sentence(rng: np.random.Generator, words: int) -> str:
    """A run of `words` words of the spelling alphabet, each drawn alone."""
    return " ".join(NATO_WORDS[index] for index in rng.integers(len(NATO_WORDS), size=words))


def grammar_sentence(rng: np.random.Generator, language: str, words: int) -> str:
    """A run of phrases in `language` with `words` words together (in Chinese written without spaces)."""
    vocabulary = VOCABULARIES[language]
    sentence: list[str] = []
    while len(sentence) < words:
        fitting = [phrase for phrase in _PHRASES if len(sentence) + len(phrase) <= words]
        for part in fitting[rng.integers(len(fitting))]:
            choices = getattr(vocabulary, part)
            sentence.append(choices if part == "conjunction" else choices[rng.integers(len(choices))])
    return vocabulary.separator.join(sentence)
