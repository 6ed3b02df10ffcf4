"""Variants of espeak-ng that speak clearly, as the voices of many people: for training, and never trained on.

Of 103 variants of the voice `en-us`, those in which an independent recogniser of the spelling alphabet
(pocketsphinx, closed grammar) errs in 8 of 20 words or fewer, at 140 to 230 words a minute and pitches 20 to 80. The
two that whisper have no pitch and are left out. Held-out ones are of those with 3 errors or fewer.
"""

# fmt: off
TRAINED_VARIANTS = (
    "Alex", "Demonic", "Denis", "Gene", "Gene2", "Henrique", "Michael", "Mike", "Nguyen", "RicishayMax2", "Storm",
    "UniRobot", "anika", "anikaRobot", "announcer", "antonio", "aunty", "croak", "david", "ed", "edward", "edward2",
    "f1", "f3", "f4", "fast", "gustave", "iven", "iven2", "klatt", "klatt2", "klatt4", "klatt5", "klatt6", "m1",
    "m2", "m4", "m5", "m6", "m7", "m8", "max", "michel", "mike2", "pedro", "robosoft", "robosoft2", "robosoft4",
    "robosoft5", "robosoft6", "robosoft7", "robosoft8", "sandro", "steph", "steph2",
)
HELD_OUT_VARIANTS = (
    "Diogo", "Hugo", "Reed", "adam", "benjamin", "caleb", "f2", "f5", "grandpa", "john", "klatt3", "m3", "miguel",
    "pablo", "robosoft3", "victor",
)
# fmt: on
