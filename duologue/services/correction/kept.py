"""`kept_words`: numbers and negations, which are never part of a correction: they change more than any name."""

from __future__ import annotations

import re
from functools import cache

from .sounds import folded

_PARTS = re.compile(r"[-.&/]")

# Negations, and numbers with their ordinals, as they are written.
_WORDS = {
    "ar": (
        "لا لم لن ليس ليست لست ما غير بدون أبدا كلا صفر واحد اثنان اثنين ثلاثة ثلاث أربعة أربع خمسة خمس ستة ست"
        " سبعة سبع ثمانية ثمان تسعة تسع عشرة عشر عشرون عشرين ثلاثون ثلاثين أربعون أربعين خمسون خمسين ستون ستين"
        " سبعون سبعين ثمانون ثمانين تسعون تسعين مئة مائة ألف نصف"
    ),
    "de": (
        "nicht nichts nie niemals niemand nirgends nirgendwo kein keine keinen keinem keiner keines nein weder"
        " noch ohne null eins zwei zwo drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn"
        " fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig dreissig vierzig fünfzig sechzig siebzig"
        " achtzig neunzig hundert tausend million millionen halb halbe anderthalb dutzend"
    ),
    "en": (
        "no not none never nor neither nothing nobody nowhere without cannot cant dont doesnt didnt isnt arent"
        " wasnt werent wont wouldnt shouldnt couldnt hasnt havent hadnt aint mustnt neednt mightnt shant nope nay"
        " zero nought naught nil one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen twenty thirty forty fourty fifty sixty seventy eighty"
        " ninety hundred thousand million billion trillion half double triple dozen once twice first second third"
        " fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
        " sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth hundredth thousandth"
    ),
    "es": (
        "no nunca jamás nada nadie ningún ninguno ninguna tampoco ni sin cero uno dos tres cuatro cinco seis"
        " siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte"
        " veintiuno veintiún veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho"
        " veintinueve treinta cuarenta cincuenta sesenta setenta ochenta noventa cien ciento doscientos"
        " trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos mil millón"
        " millones medio media primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo"
    ),
    "eu": (
        "ez inoiz ezer inor gabe zero bat bi hiru lau bost sei zazpi zortzi bederatzi hamar hamaika hamabi"
        " hamahiru hamalau hamabost hamasei hamazazpi hemezortzi hemeretzi hogei hogeita berrogei hirurogei"
        " laurogei ehun mila milioi erdi"
    ),
    "fa": (
        "نه نیست نمی هیچ هرگز بدون صفر یک دو سه چهار پنج شش هفت هشت ده یازده دوازده سیزده چهارده پانزده شانزده"
        " هفده هجده نوزده بیست سی چهل پنجاه شصت هفتاد هشتاد نود صد دویست سیصد چهارصد پانصد هزار میلیون نیم"
    ),
    "fr": (
        "non ne pas jamais rien personne aucun aucune ni sans nul nulle zéro un une deux trois quatre cinq six"
        " sept huit neuf dix onze douze treize quatorze quinze seize vingt vingts trente quarante cinquante"
        " soixante septante huitante octante nonante cent cents mille million millions demi demie premier"
        " première deuxième second seconde troisième quatrième cinquième sixième septième huitième neuvième"
        " dixième douzaine"
    ),
    "it": (
        "non no mai niente nulla nessuno nessuna nessun né neanche senza zero uno due tre quattro cinque sei"
        " sette otto nove dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove"
        " venti trenta quaranta cinquanta sessanta settanta ottanta novanta cento mille mila milione milioni"
        " mezzo mezza primo secondo terzo quarto quinto sesto settimo ottavo nono decimo"
    ),
    "lv": (
        "nē ne nav nekad nekas neviens nekur bez nulle viens viena divi divas trīs četri četras pieci piecas"
        " seši sešas septiņi septiņas astoņi astoņas deviņi deviņas desmit vienpadsmit divpadsmit trīspadsmit"
        " četrpadsmit piecpadsmit sešpadsmit septiņpadsmit astoņpadsmit deviņpadsmit divdesmit trīsdesmit"
        " četrdesmit piecdesmit sešdesmit septiņdesmit astoņdesmit deviņdesmit simts simt tūkstotis tūkstoši"
        " miljons pus"
    ),
    "nl": (
        "niet niets nooit niemand nergens geen nee noch zonder nul een één twee drie vier vijf zes zeven acht"
        " negen tien elf twaalf dertien veertien vijftien zestien zeventien achttien negentien twintig dertig"
        " veertig vijftig zestig zeventig tachtig negentig honderd duizend miljoen half halve anderhalf dozijn"
        " eerste tweede derde vierde vijfde zesde zevende achtste negende tiende"
    ),
    "pt": (
        "não nao nunca jamais nada ninguém nenhum nenhuma nem sem zero um uma dois duas três quatro cinco seis"
        " sete oito nove dez onze doze treze catorze quatorze quinze dezesseis dezasseis dezessete dezassete"
        " dezoito dezenove dezanove vinte trinta quarenta cinquenta sessenta setenta oitenta noventa cem cento"
        " duzentos trezentos quatrocentos quinhentos seiscentos setecentos oitocentos novecentos mil milhão"
        " milhões meio meia primeiro segundo terceiro quarto quinto sexto sétimo oitavo nono décimo"
    ),
    "ru": (
        "не нет ни никогда никто ничего ничто нигде никак без ноль нуль один одна одно два две три четыре пять"
        " шесть семь восемь девять десять одиннадцать двенадцать тринадцать четырнадцать пятнадцать шестнадцать"
        " семнадцать восемнадцать девятнадцать двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят"
        " девяносто сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот тысяча тысячи тысяч"
        " миллион половина полтора первый второй третий четвертый пятый шестой седьмой восьмой девятый десятый"
    ),
}
# Numbers that are written as one word, by their parts.
_JOINED = {
    "de": (
        r"(?:(?:ein|zwei|drei|vier|funf|sechs|sieben|acht|neun)und)(?:zwanzig|dreiss?ig|vierzig|funfzig|sechzig|siebzig"
        r"|achtzig|neunzig)|(?:ein|zwei|drei|vier|funf|sechs|sieben|acht|neun)(?:hundert|tausend)\w*"
    ),
    "it": (
        r"(?:vent|trent|quarant|cinquant|sessant|settant|ottant|novant)[aio]?"
        r"(?:uno|due|tre|quattro|cinque|sei|sette|otto|nove)"
    ),
    "nl": (
        r"(?:een|twee|drie|vier|vijf|zes|zeven|acht|negen)en(?:twintig|dertig|veertig|vijftig|zestig|zeventig|tachtig"
        r"|negentig)|(?:twee|drie|vier|vijf|zes|zeven|acht|negen)(?:honderd|duizend)\w*"
    ),
}


class KeptWords:
    """The numbers and negations of a language, and those of English."""

    def __init__(self, language: str) -> None:
        said = f"{_WORDS['en']} {_WORDS.get(language, '')}"
        self._words = frozenset(map(folded, said.split()))
        self._joined = re.compile(_JOINED.get(language, r"(?!)"))
        self._elides = language == "fr"

    def __contains__(self, word: str) -> bool:
        """Return True for a word, as it is written, with a digit, or of which a part is a number or a negation."""
        return any(map(self._is_kept, _PARTS.split(word)))

    def _is_kept(self, part: str) -> bool:
        plain = folded(part)
        if plain in self._words or self._joined.fullmatch(plain) or any(map(str.isdigit, plain)):
            return True
        apostrophes = part.lower().replace("’", "'")
        return apostrophes.endswith("n't") or (self._elides and apostrophes.startswith("n'"))


@cache
def kept_words(language: str) -> KeptWords:
    """Return the words of a language that are never part of a correction."""
    return KeptWords(language)
