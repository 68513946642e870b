"""Given names that are common in themselves, so that two of them a letter apart are two names and no slip."""

from __future__ import annotations

from shopsight.training.data.identity.linkage.nicknames import KNOWN

# Folded as linkage/normalise.py folds them; spelling variants of one name need no second line.
_COMMON = """
" aaron ada adam adela adrian adriana agata agnes agnieszka ahmed aicha aida aidan aisha alan alba albert
alberto aldo alejandra alejandro alena alessandra alessandro alessia alfred ali alice alicia alina alma
alison alva alvaro amalia amanda amelia amelie amina amir amy ana anastasia anders andre andrea andreas
andrei angela angelo angelika anita anja anna anne annika antje anton antonia antonio ari armin arne arthur
asta astrid august aurora axel ayse barbora beata beate beatrice beatriz ben benedikt berit bernard bernd
birgit bjorn boris bozena branko brian britta bruno camila camilla carina carl carla carlo carlos carmen
carol carolina caroline cecilia cedric celia celine cesar chiara chloe ciara clara claude claudia claudio
clemens conrad cora cristian cristina dagmar dalia damian dan dana daniela danilo dara daria dario david
dennis diana diego dieter dina dirk dmitri dominik dominika dora dorothea edgar edith eduardo egon elena
elias elif elin elisa elise elke ella elsa elvira emil emilia emma enrico enzo eric erika erich erin ernst
erwin esther eugen eva evelyn fabian fabio fatima federica federico felicia felipe felix fernanda fernando
filip fiona flora florian freya frida gabriel gabriela gabriele gareth gerald gerd gerda gerhard gianni gina
giovanni giulia giulio gloria gottfried grace graham greta gregor gudrun guido guillermo gunter gustav hana
hanna hannah hans harald hassan heidi heiko heike helen helena helene helga helmut henrik henriette herbert
hermann hilda holger horst hugo ian ida igor ilona ilse imre ina ines inga inge ingo ingrid iris irene irina
irma ivan ivana ivo jack jacques jan jana jane janet janina jaro jasmin jason jasper javier jean jeanne jens
jesper joachim joan joana joanna joel johanna jolanta jonas jorg jorge josephine juan juana juha jules julia
julian juliana julie julien juliette julio julius june jurgen justin justina justus kai kamil kamila karel
karen karim karin karl karla karolina kasper kay keith kerstin kevin kim kira klara klaus konrad konstantin
kristina kristof kurt lara lars laura laurent lea leah lena leo leon leona leonard leonie leopold levi lia
lidia lilly lina linda lionel lisa liv livia lorena lorenz lorenzo lothar louis louisa louise luca lucas
lucia luciana luciano lucie lucy ludwig luis luisa luka luna lydia magda magdalena magnus maja malte manfred
manuel manuela mara marc marcel marcela marcin marco marcus mareike marine margit margot mariana marianne
mariano marie marija marina mario marion marius marko markus marlene marta martha martin martina martine
mascha mateo mathilde mathis matteo matthias maud maurice mauro max maya mehmet meike mela melanie melina
merle mia michaela michal michele michelle miguel mila milan milena mina mira miriam mohammed moira mona
monica monika moritz mustafa nadia nadine nadja naomi natalia natalie natascha nele nicola nicole nicoletta
niels nils nina noah noel nora norbert norma oda odile olaf oleg olga oliver olivia oscar oskar otto pablo
paola paolo pascal patricia paul paula paulina pauline paulo pavel pavla pedro per pernille petr petra
petros pia pierre pilar piotr quentin rafael raffaele rahel raimund ralf ramon ramona raoul raquel raul
regina reiner renata renate rene ricardo riccardo rita roberta roberto rocco roger roland rolf romain roman
romana rosa rosalia rosario rosie roxana ruben rudolf rune ruth sabine sabrina salma salvador samira sandra
sanna sara saskia selma serena sergei sergio sigrid silvia silvio simon simona simone sina sofia sonja
sophie stanislav stella sten sven svenja svetlana sylvia tamara tanja tara tarek tatjana thea theresia
thierry thorsten tibor tilda till tilo tim tina tobias tom tomas torben ugo ulf uli ulla ulrich ulrike
ursula uta ute uwe vadim valentin valentina valeria valerie vera verena veronika viktor vincent viola vito
vladimir volker wanda werner wiebke wolfgang xaver xenia yara yasmin yusuf yvonne yves zoe zofia
"""

COMMON_NAMES = frozenset(_COMMON.split()) | KNOWN
