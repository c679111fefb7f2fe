// stories_grammar.h: what the stories say. A rule is `name = one | another`; alternatives are equally likely unless one
// begins with a weight such as (3). [this|that] is a choice in place, <name> a rule, and an empty alternative is allowed:
// [very|] glad. What stands in braces speaks to the world, which stories_teller.h keeps:
//
//   text    {a} Tom, or "he" if Tom was the last subject    {A} Tom    {he a} he    {his a} his    {him a} him, or Tom where
//           two people in the story are "him"    {x} the red ball    {an x:toy} a red ball    {bare x} red ball
//           {p} the park    {in p:room} in the hall    {an} "a" or "an", as the next word wants
//           {answer t} The red ball is in the hall.    {reply t o} "I have it," said Tom.
//   silent  {a goes p} {a goes home} {x is p} {a has x} {a takes x} {a puts x} {a gives x b} {p = kitchen}
//           {a fetches t} goes there and takes it    {a moves t n} fetches it and puts it elsewhere    {a hands t o}
//   picks   {pick t free} a thing that lies somewhere, m is where    {pick t held} one that somebody has, s is who
//           {pick t any} one of both    {pick s} somebody who does not have t    {pick o} somebody but s    {new n} not m
//           An alternative that begins with a pick is possible only where there is something to pick.
//
// A letter stands for one person (a b c children, g a grown-up, d an animal), thing (x y z) or place (p q r) for the whole
// story; who or what it is gets chosen where it is first named. Every choice must show in the text before the story ends:
// test_stories.cpp reads stories back, tries everything that the grammar allows, and wants exactly one way to tell each.
#pragma once

namespace stories {

constexpr const char* GRAMMAR = R"(
story = <plot> <moves> <late> <questions> <ending>
plot = <lost> | <gift> | <errand> | <visit> | <rain> | <cook> | <tidy> | <swap> | <pet>

# ---------------------------------------------------------------- people, things, places
boy = Tom | Ben | Sam | Max | Leo
girl = Anna | Lily | Mia | Emma | Zoe
man = Grandpa | Dad | Uncle Joe
woman = Grandma | Mum | Aunt May
animal = the dog | the puppy | the cat | the kitten | the parrot | the monkey | the goat | the fox
child = <boy> | <girl>
elder = <man> | <woman>
colour = red | blue | green | yellow | white | black | orange | brown | pink | grey | purple | golden
shade = <colour> | old | new | little | big | shiny | wooden
toy = ball | kite | doll | drum | train | robot | puzzle | boat
clothes = hat | scarf | coat | cap | jacket | belt
kit = cup | bowl | spoon | pot | plate | jug
stuff = book | lamp | key | box | clock | umbrella | blanket | bell | map | rope
goods = <toy> | <clothes> | <kit> | <stuff>
room = in the kitchen | in the bedroom | in the attic | in the hall | in the cellar | in the bathroom | in the playroom
outside = in the garden | in the park | in the forest | in the meadow | at the market | on the beach | at the farm
        | by the river
place = <room> | <outside>

# ---------------------------------------------------------------- words
digit = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
number = [1|2|3|4|5|6|7|8|9]<digit>
time = [1|2|3|4|5|6|7|8|9|10|11|12]:[0|1|2|3|4|5]<digit>
weekday = Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
day = sunny | bright | warm | cold | windy | quiet | dark | fine | misty | frosty | cloudy | mild | fresh | calm | hot
    | cool | dull | happy | slow | dry
part = morning | afternoon | evening | day
when = (2) one <day> <part>
     | (2) on {an} <day> <weekday>
     | (2) last <weekday> at <time>
     | (2) at <time> on {an} <day> <weekday>
soon = later | then | after that | soon | a little later | after lunch | after tea | much later | next
later = <soon> | <number> [minutes|seconds|steps] later
mood = happy | glad | pleased | proud | cheerful | merry | thankful | excited | grateful | amazed | content | touched
     | surprised | hopeful
sad = sad | cross | upset | worried | gloomy | unhappy | puzzled | angry | sorry | lonely | hurt | afraid
walked = went | walked | ran | hurried | strolled | wandered | skipped | rushed | marched | raced | hopped | danced | crept
       | dashed
had = had | held | carried | brought | hugged | showed
gave = gave | handed | passed | lent | sold | offered
put = put | left | laid | set | placed | hid | dropped | stored
took = took | grabbed | got | lifted | collected | snatched | claimed | seized
found = found | saw | spotted | noticed | discovered | uncovered
carried = carried | took | brought | moved | dragged | pulled | rolled | pushed
looked = looked | searched | peeked | hunted | checked | felt | crawled | poked
said = said | cried | laughed | whispered | called | shouted | sang | sighed | mumbled | yelled | giggled | smiled
thanks = Thank you | Thanks | Many thanks | How kind | How lovely | You are the best
good = good | great | fine | perfect | wonderful | nice | happy | splendid | grand | busy | long | funny | quiet | strange
     | sweet | lucky
kind = fat | thin | tiny | noisy | sleepy | funny | hungry | young | muddy | lazy | shy | clever | wet | fast | tall | kind
     | loud | rude | brave | strange | bored | strong | wild | tired | busy | calm | silly | proud
job = farmer | sailor | baker | teacher | painter | doctor | king | queen | giant | witch | pirate | knight | prince | clown
    | cook | nurse | singer | dancer | captain | soldier | thief | wizard | lion | dragon | tiger | horse | whale | judge
someone = {an} <kind> <job>
beasts = ducks | geese | rabbits | frogs | sheep | goats | crows | ponies | pigs | swans | hens | cows | owls | foxes | mice
       | bees | snails | deer | ants | lambs | cats | dogs | bats | rats | toads | bears | wolves | crabs
few = two | three | four | five | six | seven | eight | nine | ten
many = <few> | <number>
herd = <many> <kind> <beasts>
object = fence | gate | bridge | bench | bush | wall | stone | bucket | tree | cart | log | barrel | post | sack | ladder
       | bin | sign | swing | shed | wheel | tent | tractor | rock | wagon
spot = [under|behind|beside|near|next to|in front of] {an} <object>
meal = bread | cheese | soup | toast | rice | eggs | noodles | salad | pie | beans | potatoes | ham | fish | stew | corn
     | peas | pizza | pasta
fruit = apples | pears | plums | grapes | nuts | cookies | berries | cherries | honey | melon | figs | peaches | carrots
      | cake | jam | lemons | candy | bananas
spice = salt | pepper | herbs | garlic | mustard | sauce | butter | sugar
drink = water | tea | juice | milk | cocoa | coffee
food = <meal> and <fruit> | <meal>, <spice> and <fruit>
junk = sock | button | coin | feather | pencil | spider | leaf | shoe | needle | ribbon | brush | shell | egg | nail | glove
     | bone
state = dusty | broken | empty | torn | sticky | bent | dirty | wet | dry | soft | flat | round
scrap = {an} <state> <junk>
piece = bed | rug | stairs | desk | table | chair | shelf | door | curtain | sofa | stove | piano | cupboard | bath | window
      | fireplace
nook = [next to|behind|beside|under|near] the <piece>
ate = ate | shared | tried | tasted | had | enjoyed | nibbled | chewed
watched = watched | followed | fed | counted | heard | chased | greeted | visited
met = met | asked | thanked | helped | followed | greeted | joined | passed
drew = drew | talked about | sang about | dreamed of | laughed at | painted | looked for | wrote to
came = came by | walked by | ran past | turned up | came along | stopped by | stood there | waited there
game = chess | tag | cards | pirates | shops | knights | doctors | dragons | spies | trains | school | farms
adverb = quickly | slowly | quietly | carefully | happily | gently | proudly | politely | calmly | softly | kindly
       | sleepily | loudly | neatly | boldly | shyly | gladly | eagerly | bravely | at once | with a smile | with a nod
       | with a wink | in a hurry
way = (2) <adverb> | (3) like <someone>
indoors = <alone> | [drawing|painting|reading about|singing about|thinking of|dreaming of] <subject>
subject = <someone> | <herd>
alone = sewing | dusting | counting to <number> | cutting paper | humming | knitting | dancing | doing sums
      | washing <number> socks | making tea | reading page <number> | writing letters
outdoors = <pastime> | [talking to|waving at|looking for|running from|laughing with|hiding from] <subject>
pastime = picking flowers | climbing a tree | watching the clouds | eating <fruit> | resting | whistling | digging a hole
     | throwing stones

# ---------------------------------------------------------------- small scenes that the plots share
meet = <when> {a} <walked> to {p:room}, where {B} was <indoors>. {a goes p} {b goes p}
     | <when> {a} <walked> to {p:outside}, where {B} was <outdoors>. {a goes p} {b goes p}
     | <when> {A} and {B} were {in p:place} with <someone>. {a goes p} {b goes p}
have = {A} <had> {an x:goods} and {B} <had> {an y:goods}. {a has x} {b has y}
     | {A} <had> {an x:goods} from <someone>. {a has x} "I have {an y:goods}," <said> {B}. {b has y}
play = They played <game> with <someone>.
     | They <drew> <herd> and <ate> <food>.
     | {a} <watched> <herd> and <herd> <spot>.

# one cause, one effect
need = {a} was thirsty, so {he a} drank <number> [cups|sips] of <drink>.
     | {a} was hungry, so {he a} <ate> <food>.
     | {a} was tired, so {he a} [slept|rested] for <number> minutes.
     | {a} was bored, so {he a} [sang|hummed] a song about <herd>.

# later in the day, when there is less to tell
late = (2)
     | (1) <someone> <came> with <herd>.
     | (1) They <ate> <food> with <someone>.
     | (1) <need>

# after the plot, things go on being moved and handed on
moves = (3) <move> | (1) <move> <move>
move = (4) {pick t free} {pick s} <later>, {s} <carried> {t} to {new n} {n} <way>. {s moves t n}
     | (2) {pick t free} {pick s} <later>, {s} <took> {t} from {m}. {s fetches t}
     | (3) {pick t held} <later>, {s} <put> {t} {new n} {in n} <way>. {s moves t n}
     | (2) {pick t held} {pick o} <later>, {s} <gave> {t} to {O} <way>. {s hands t o}

# the question, which only those can answer who followed the story; the answer is never a matter of chance
questions = (3) <question> | (1)
question = (3) {pick t any} Where is {t}? {answer t}
         | (2) {pick t any} {pick s without t} {pick o} "Where is {t}?" {S} asked {O} <way>. {reply t o}

ending = 
       | {pick s} {pick o} {S} and {O} were as <mood> as <someone>.
       | {pick s} "What {an} <good> day," <said> {S} <way>.
       | {pick s} That night {S} dreamed of <herd> and <someone>.

# ---------------------------------------------------------------- the plots
lost = <lost_it> <lost_look> <lost_help> <lost_found>
lost_it = <when> {a} could not find {his a} {bare x:goods}.
        | {A} had {an x:goods} from <someone>, but <when> it was gone.
lost_look = {a} <looked> <nook>, but <found> only <scrap>.
          | {a} <looked> for <number> minutes like <someone>.
lost_help = {B} <came> with {an y:goods}. {b has y} "Yours is {in q:outside}," {he b} <said> <way>. {x is q}
          | {B} was <indoors> {in p:room}, near {an y:goods}. {y is p} {a goes p} {b goes p} "Go to {q:outside}," {he b}
              <said>. {x is q}
lost_found = {A} <walked> there and <took> {x} <way>. {a goes q} {a takes x}
           | {A} <walked> there and <carried> {x} to {r:room}. {a goes q} {a takes x} {a goes r} {a puts x}

gift = <gift_day> <gift_get> <gift_give> <gift_thanks>
gift_day = <when> it was {B}'s birthday.
         | <when> {b} was as <sad> as <someone>.
gift_get = {A} bought {an x:goods} for <number> cents from <someone>. {a has x}
         | {A} wrapped {an x:goods} in <colour> paper like <someone>. {a has x}
gift_give = {A} <walked> to {B} {in p:place} and <gave> {x} to {him b}. {a goes p} {b goes p} {a gives x b}
gift_thanks = "<thanks>," <said> {B} and <put> {x} {in q:room}, next to {an y:goods}. {b goes q} {b puts x} {y is q}
            | "<thanks>," <said> {B} and <gave> {A} {an y:goods}. {b has y} {b gives y a}

errand = <errand_ask> <errand_go> <errand_find> <errand_back>
errand_ask = <when> {G} asked {A} to fetch {an x:goods} from {p:outside}. {x is p}
           | "Get me {x:goods} from {p:outside}," <said> {G} to {A} <when>. {x is p}
errand_go = {A} <walked> there <way>. {a goes p}
          | {a goes p} On the way {A} <met> <someone> and <herd>.
errand_find = {A} <found> {x} <spot>, with {an y:goods}. {y is p} {a takes x}
            | {B} was there with {an y:goods}, <outdoors>. {b goes p} {b has y} {A} <took> {x} <way>. {a takes x}
errand_back = {G} <took> {x} and cooked <food> for {A}. {a goes home} {a gives x g}
            | {A} <carried> {x} to {q:room} <way>. {a goes q} {a puts x}

visit = <meet> <have> <play> <visit_end>
visit_end = {A} <put> {x} {in q:place} <way>. {a goes q} {a puts x}
          | {A} <gave> {x} to {B} <way>. {a gives x b}
          | {B} <put> {y} {in q:place} <way>. {b goes q} {b puts y}

rain = <rain_play> <rain_run> <rain_dry> <rain_over>
rain_play = <when> {a} was {in p:outside} with {an x:goods} when it began to [rain|snow|hail|pour|storm|freeze]. {a goes p} {a has x}
          | {a} was <outdoors> {in p:outside} with {an x:goods} when [dark|black|heavy|grey] clouds came. {a goes p}
              {a has x}
rain_run = {A} <put> {x} <spot> and <walked> to {q:room}. {a puts x} {a goes q}
         | {A} <took> {x} and <walked> to {q:room} <way>. {a goes q}
rain_dry = {B} was there, <indoors>, and <gave> {him a} {an y:clothes}. {b goes q} {b has y} {b gives y a}
         | {B} was there with {an y:goods}. {b goes q} {b has y} <need>
rain_over = When the [sun came out|sky was blue], {a} <walked> to {r:outside} <way>. {a goes r}
          | Outside, <herd> and <someone> were [wet|cold|sad|busy] too.

cook = {p = kitchen} <cook_plan> {a goes p} {b goes p} <cook_need> <cook_fetch> <cook_eat>
cook_plan = <when> {A} and {B} wanted to cook <food>.
          | "Let us make <food>," <said> {A} to {B} <when>.
cook_need = They needed {an x:kit}, but it was {in q:place}. {x is q}
          | "We need {x:kit} from {q:place}," <said> {B} <way>. {x is q}
cook_fetch = {A} <walked> there and <took> it, and {B} <found> {an y:kit}. {a goes q} {a takes x} {b has y}
           | {B} <walked> there and <took> it, and {A} <had> {an y:goods}. {b goes q} {b takes x} {a has y}
cook_eat = They added <spice> and <fruit> and <ate> it with <someone>.
         | It was as [hot|sweet|soft|sour] as <someone>.

tidy = <tidy_why> <tidy_two> <tidy_last>
tidy_why = <when> {A} and {B} tidied the house like <someone>.
         | <when> {G} asked {A} and {B} to tidy up <way>.
tidy_two = {A} <put> {an x:goods} {in p:room} <way>. {x is p} {B} <put> {an y:goods} {in q:room}, <nook>. {y is q}
         | {A} <took> {an x:goods}. {a has x} {B} <put> {an y:goods} {in q:room} <way>. {y is q}
tidy_last = {A} <carried> {an z:goods} to {r:place} <way>. {z is r}
          | They <found> <scrap> <nook> and {an z:goods} {in r:place}. {z is r}
          | "Whose {bare z:goods} is this?" asked {A} <way>. "It is mine," <said> {B}. {b has z}

swap = <meet> <have> "Shall we swap?" asked {A} <way>. <swap_say> <play>
swap_say = (2) "Yes," <said> {B} <way>. {a gives x b} {b gives y a}
         | (1) "No," <said> {B} <way>.

pet = <pet_calm> <pet_take> <pet_chase> <pet_end>
pet_calm = <when> {A} and {B} were {in p:outside}, <outdoors>. {a goes p} {b goes p} {an x:goods} lay <spot>. {x is p}
         | <when> {A} and {B} were {in p:room}, <indoors>. {a goes p} {b goes p} {an x:goods} lay <nook>. {x is p}
pet_take = {D} <took> {x} and <walked> to {q:outside} <way>. {d fetches x} {d goes q}
         | There came {d}, as <kind> as <someone>, and <took> {x}. {d fetches x}
pet_chase = "Stop," <said> {A} <way>.
          | {A} <walked> after it, past <herd> and <someone>.
pet_end = {d} dropped it {in r:outside}, <spot>, and <took> {an z:goods}. {d goes r} {d puts x} {d has z}
        | {A} gave it <meal> and <fruit>, and {d} <gave> {x} to {B}. {d hands x b} {B} <put> {an z:goods} {in r:place}.
            {z is r}
)";

}  // namespace stories
