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
plot = <lost> | <gift> | <errand> | <visit> | <rain> | <cook> | <tidy> | <swap> | <picnic> | <pet> | <mend> | <bed> | <hide>

# ---------------------------------------------------------------- people, things, places
boy = Tom | Ben | Sam | Max | Leo | Jack | Tim | Dan | Finn | Hugo | Adam | Paul
girl = Anna | Lily | Mia | Emma | Zoe | Lucy | Kate | Nora | Ella | Jane | Ruth | Sue
man = Grandpa | Dad | Uncle Joe
woman = Grandma | Mum | Aunt May
animal = the dog | the puppy | the cat | the kitten | the parrot | the monkey | the goat | the fox
child = <boy> | <girl>
elder = <man> | <woman>
colour = red | blue | green | yellow | white | black | orange | brown | pink | grey | purple | golden
shade = <colour> | old | new | little | big | shiny | wooden
toy = ball | kite | doll | drum | train | robot | puzzle | boat | whistle | balloon | puppet | trumpet
clothes = hat | scarf | coat | cap | jacket | sweater | belt | apron
kit = cup | bowl | spoon | pot | plate | jug | pan | fork
stuff = book | lamp | key | box | clock | umbrella | blanket | bell | map | rope | basket | mirror | pillow | candle
goods = <toy> | <clothes> | <kit> | <stuff>
small = <toy> | <stuff>
room = in the kitchen | in the bedroom | in the attic | in the hall | in the cellar | in the bathroom | in the playroom
outside = in the garden | in the park | in the forest | in the meadow | at the market | on the beach | at the farm | by the river
place = <room> | <outside>

# ---------------------------------------------------------------- words
digit = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
number = [1|2|3|4|5|6|7|8|9]<digit>
time = [1|2|3|4|5|6|7|8|9|10|11|12]:[0|1|2|3|4|5]<digit>
weekday = Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
day = sunny | bright | warm | cold | windy | quiet | dark | lovely | fine | misty | frosty | cloudy | mild | mellow | fresh | calm
    | hot | cool | dull | chilly | happy | slow | long | short | dry | clear | strange | sleepy | icy | gentle | rosy | pale
part = morning | afternoon | evening | day
when = (2) one <day> <part> | (2) on {an} <day> <weekday> | (2) last <weekday> at <time> | (2) at <time> on {an} <day> <weekday>
soon = later | then | after that | soon | a little later | after lunch | after tea | much later | next | after a nap
later = <soon> | <number> [minutes|seconds|steps] later
mood = happy | glad | pleased | proud | cheerful | delighted | merry | thankful | excited | thrilled | grateful | joyful | amazed
     | content | gleeful | touched | surprised | relieved | hopeful | giddy
sad = sad | cross | upset | worried | gloomy | unhappy | puzzled | miserable | angry | sorry | glum | lonely | hurt | afraid | grumpy | blue
walked = went | walked | ran | hurried | strolled | wandered | skipped | rushed | marched | raced | hopped | trotted | danced
       | crept | limped | cycled | dashed | sneaked | jogged | rode
had = had | held | carried | brought | hugged | showed
gave = gave | handed | passed | lent | sold | offered
put = put | left | laid | set | placed | hid | dropped | stored
took = took | grabbed | got | lifted | collected | snatched | claimed | seized
found = found | saw | spotted | noticed | discovered | uncovered
carried = carried | took | brought | moved | dragged | pulled | rolled | pushed
looked = looked | searched | peeked | hunted | checked | felt | crawled | poked
said = said | cried | laughed | whispered | called | shouted | sang | sighed | mumbled | yelled | giggled | announced | smiled | growled
     | joked | sobbed
answered = answered | replied | said | cried | laughed | whispered
thanks = Thank you | Thanks | Thank you so much | Many thanks | How kind | You are so kind | How lovely | You are the best
good = good | great | fine | lovely | perfect | wonderful | nice | happy | splendid | jolly | grand | busy | long | funny | quiet | strange
     | sweet | merry | magic | lucky
kind = fat | thin | tiny | noisy | sleepy | funny | hungry | young | muddy | lazy | shy | clever | wet | fast | tall | short | kind | loud
     | rude | brave | strange | bored | strong | wild | tired | busy | calm | silly | proud | smart | jolly | hairy | weak | mad | bold | sly
job = farmer | postman | sailor | baker | teacher | painter | shepherd | doctor | king | queen | giant | witch | pirate | knight
    | prince | clown | cook | nurse | singer | dancer | gardener | captain | soldier | thief | wizard | miller | tailor | driver
    | fisherman | princess | lion | dragon | tiger | horse | elephant | whale | judge | spy | monk | smith
someone = {an} <kind> <job>
beasts = ducks | geese | rabbits | frogs | sheep | goats | crows | ponies | pigs | swans | hens | cows | owls | foxes | mice
       | bees | snails | deer | ants | lambs | cats | dogs | bats | rats | hares | toads | moles | flies | bears | wolves | storks
       | turtles | crabs | seals | worms | moths | beetles | camels | zebras | doves
few = two | three | four | five | six | seven | eight | nine | ten | eleven
many = <few> | <number>
herd = <many> <kind> <beasts>
object = fence | gate | hedge | bridge | bench | bush | wall | stone | bucket | tree | cart | haystack | log | barrel | post | sack
       | ladder | bin | sign | swing | shed | wheel | mailbox | tent | statue | tractor | fountain | kennel | rock | net | trunk | wagon
spot = [under|behind|beside|near|next to|in front of] {an} <object>
meal = bread | cheese | soup | toast | rice | pancakes | sausages | eggs | noodles | salad | pie | beans | potatoes | ham | fish
     | stew | corn | peas | pizza | beef | pasta | butter | mushrooms | onions
fruit = apples | pears | plums | grapes | nuts | cookies | berries | cherries | honey | raisins | melon | figs | peaches
      | carrots | cake | jam | dates | lemons | candy | fudge | waffles | yogurt | muffins | bananas
spice = salt | pepper | herbs | garlic | mustard | sauce | oil | sugar | ketchup | cream | milk | vinegar
drink = water | tea | juice | lemonade | cocoa | cider | coffee | punch
food = <meal> and <fruit> | <meal>, <spice> and <fruit>
junk = sock | button | coin | feather | marble | pencil | spider | leaf | shoe | needle | ribbon | brush | shell | crayon | acorn
     | egg | nail | pebble | glove | stamp | bone | cork | match | string
state = dusty | broken | rusty | empty | torn | sticky | cracked | bent | dirty | smelly | wet | dry | soft | flat | round | dead
scrap = {an} <state> <junk>
piece = bed | rug | stairs | bench | desk | table | mattress | chair | shelf | door | curtain | sofa | stove | piano | cupboard | bath
      | bookcase | wardrobe | flowerpot | cushion | heater | window | fireplace | dresser
nook = [next to|behind|beside|under|near] the <piece>
ate = ate | shared | tried | tasted | had | enjoyed | nibbled | chewed
watched = watched | followed | fed | counted | drew | heard | chased | greeted
asked = asked | begged
there_with = was there with | sat there with | stood there with | waited there with
at_last = then | soon | finally | at last
met = met | asked | thanked | helped | followed | greeted | joined | passed
drew = drew | talked about | sang about | dreamed of | laughed at | painted | looked for | wrote to
came = came by | walked by | ran past | turned up | came along | stopped by | stood there | waited there
game = chess | tag | cards | pirates | shops | knights | doctors | dragons | spies | trains | school | farms | castles | ghosts
     | families | wizards
adverb = quickly | slowly | quietly | carefully | happily | gently | proudly | politely | calmly | softly | at once | with a smile
       | with a nod | with a wink | with a grin | gladly | kindly | sleepily | loudly | neatly | boldly | shyly | with a bow | in a hurry | in silence | nervously | gracefully | wearily | eagerly | lazily | bravely | clumsily
way = (2) <adverb> | (3) like <someone>
indoors = <alone> | [drawing|painting|reading about|singing about|thinking of|dreaming of] <subject>
subject = <someone> | <herd>
alone = sewing | dusting | writing a letter | sweeping the floor | counting to <number> | cutting paper | humming | knitting | yawning
      | dancing | doing sums | folding shirts | washing <number> socks | making tea | reading page <number>
outdoors = <play> | [talking to|waving at|looking for|running from|laughing with|hiding from] <subject>
play = picking flowers | climbing a tree | watching the clouds | eating <fruit> | chasing flies | resting | whistling
     | jumping over puddles | digging a hole | throwing stones

# ---------------------------------------------------------------- small scenes that the plots share
# one cause, one effect
need = {a} was thirsty, so {he a} drank <number> [cups|glasses|mugs|sips] of <drink>.
     | {a} was hungry, so {he a} <ate> <food>.
     | {a} was tired, so {he a} [sat down|lay down|slept|rested] for <number> minutes.
     | {a} was cold, so {he a} [clapped|hopped|jumped|danced] <number> times <way>.
     | {a} was dirty, so {he a} washed {his a} [hands|face|hair|feet|ears|nose|neck|knees] <way>.
     | {a} was bored, so {he a} [sang|hummed|whistled|played] a song about <herd>.

sight = {a} <watched> <herd> and <herd> <spot>.
      | <herd> [sat|stood|slept|rested] <spot>, and <someone> <watched> them.
      | {a} <met> <someone> <spot>, and they <drew> <herd>.
      | {a} bought <meal>, <spice> and <fruit> for <number> cents from <someone>.
      | {a} <found> <scrap> <spot> and <gave> it to <someone>.
      | {a} told <someone> a story about <herd>.

# later in the day, when there is less to tell
late = <someone> <came> with <herd>.
     | At <time> they <ate> <meal>, <spice> and <fruit> with <someone>.
     | They <watched> <herd> and <herd>.
     | They played <game> with <someone> and <herd>.
     | <need>

# after the plot, things go on being moved and handed on
moves = (5) <move> | (3) <move> <move> | (2)
move = (4) {pick t free} {pick s} <later>, {s} <carried> {t} to {new n} {n} <way>. {s moves t n}
     | (2) {pick t free} {pick s} <later>, {s} <took> {t} from {m}. {s fetches t}
     | (3) {pick t held} <later>, {s} <put> {t} {new n} {in n} <way>. {s moves t n}
     | (2) {pick t held} {pick o} <later>, {s} <gave> {t} to {O} <way>. {s hands t o}

# the question, which only those can answer who followed the story; the answer is never a matter of chance
questions = (3) <question> | (1)
question = (3) {pick t any} Where is {t}? {answer t}
         | (2) {pick t any} {pick s without t} {pick o} "Where is {t}?" {S} <asked> {O} <way>. {reply t o}

ending = {pick s} {pick o} {S} and {O} were as <mood> as <someone>.
       | {pick s} {S} [smiled|yawned|laughed|went home|fell asleep|waved goodbye|sneezed|danced] <way>.
       | {pick s} "What {an} <good> [day|time|week|year]," <said> {S} <way>.
       | {pick s} That night {S} dreamed of <herd> and <someone>.

# ---------------------------------------------------------------- the plots
lost = <lost_it> <lost_look> <lost_help> <lost_found>
lost_it = <when> {a} [could not find|had lost|was looking for|missed] {his a} {bare x:small}.
        | <when> {A}'s {bare x:small} was [gone|lost|missing].
        | "I have lost my {bare x:small}," <said> {A} <when>.
        | {A} had {an x:small} from <someone>, but <when> it was [gone|lost|missing].
lost_look = {a} <looked> <nook>, but <found> only <scrap>.
          | {a} <looked> <nook> and <met> <someone>.
          | {a} <looked> for <number> minutes like <someone>.
          | There was only <scrap> <nook>.
lost_help = {B} was <indoors> {in p:room} with {an y:goods}. {b has y} {a goes p} {b goes p} "[Try|Check|Visit|Search] {q:outside}," <said> {B}. {x is q}
          | {B} <came> with {an y:goods}. {b has y} "Yours is {in q:outside}," {he b} <said> <way>. {x is q}
          | {B} was <indoors> {in p:room}, near {an y:goods}. {y is p} {a goes p} {b goes p} "[Go to|Look near|Run to|Walk to] {q:outside}," {he b} <said>. {x is q}
lost_found = {A} <walked> there and <took> {x}. {a goes q} {a takes x} <lost_home>
           | {A} <walked> to {q} and <took> {x} <way>. {a goes q} {a takes x} <lost_home>
lost_home = {A} <put> it {in r:room}, <nook>. {a goes r} {a puts x}
          | {A} [hugged|held|kissed|washed|cleaned|shook|stroked|dried] it <way>.

gift = <gift_day> <gift_get> <gift_go> <gift_give>
gift_day = <when> it was {B}'s birthday.
         | <when> {b} was [five|six|seven|eight|nine|ten] years old.
         | <when> {b} was as <sad> as <someone>.
gift_get = {A} bought {an x:goods} for <number> cents from <someone>. {a has x}
         | {A} wrapped {an x:goods} in <colour> paper like <someone>. {a has x}
         | {A} got {an x:goods} from <someone> <spot>. {a has x}
gift_go = {a} <walked> to {p:outside}, where {B} was <outdoors>. {a goes p} {b goes p}
        | {a} <walked> to {p:room}, where {B} was <indoors>. {a goes p} {b goes p}
        | <sight> <at_last> {he a} <walked> to {B} {in p:place}. {a goes p} {b goes p}
gift_give = {A} <gave> {x} to {B} <way>. {a gives x b} {B} <put> it {in q:room}, next to {an y:goods}. {b goes q} {b puts x} {y is q}
          | {B} <took> {x} and <gave> {A} {an y:goods} <way>. {b has y} {a gives x b} {b gives y a}
          | {B} <took> {x} <way>. {C} <came> with {an y:goods}. {a gives x b} {c goes p} {c has y}
          | "<thanks>," <said> {B} and <took> {x}. {a gives x b} {A} <put> {an y:goods} {in p} <way>. {y is p}

errand = <errand_ask> <errand_go> <errand_find> <errand_back>
errand_ask = <when> {G} asked {A} to [fetch|get|bring|find] {an x:goods} from {p:outside}. {x is p}
           | "[Fetch|Get|Bring|Find] me {x:goods} from {p:outside}," <said> {G} to {A} <when>. {x is p}
           | <when> {G} sent {A} to {p:outside} for {an x:goods}. {x is p}
errand_go = {a} <walked> there <way>. {a goes p}
          | {a goes p} <sight>
          | {a goes p} <need>
errand_find = {A} <found> {x} <spot>, with {an y:goods}. {y is p} {a takes x}
            | {B} <there_with> {an y:goods}, <outdoors>. {b goes p} {b has y} {A} <took> {x} <way>. {a takes x}
            | {A} <took> {x}, and {an y:goods} from <someone> too. {a takes x} {a has y}
errand_back = {G} <took> {x} and cooked <food> for {A}. {a goes home} {a gives x g}
            | {A} <carried> {x} to {q:room} <way>. {a goes q} {a puts x}
            | {G} <put> {x} {in q:room}, <nook>. {a goes home} {a gives x g} {g goes q} {g puts x}

visit = <visit_go> <visit_show> <visit_play> <visit_end>
visit_go = <when> {a} <walked> to {p:room} to [see|meet|help|hug] {B}, who was <indoors>. {a goes p} {b goes p}
         | <when> {a} <walked> to {p:outside} to [see|meet|help|hug] {B}, who was <outdoors>. {a goes p} {b goes p}
         | <when> {a} was {in p:room}, <indoors>, when {B} <came>. {a goes p} {b goes p}
         | <when> {a} was {in p:outside}, <outdoors>, when {B} <came>. {a goes p} {b goes p}
visit_show = {A} <had> {an x:goods} and {B} <had> {an y:goods}. {a has x} {b has y}
           | "Look at my {bare y:goods}," <said> {B}. {b has y} {A} had {an x:goods} from <someone>. {a has x}
           | {A} <had> {an x:goods}. {a has x} "I have {an y:goods}," <said> {B} <way>. {b has y}
visit_play = They played <game> <way> and <ate> <food>.
           | They <drew> <herd> and <someone>.
           | They played <game> for <number> minutes with <someone>.
           | They told <someone> a story about <herd>.
visit_end = {A} <put> {x} {in p} <way>. {a puts x} {a goes home}
          | {A} <gave> {x} to {B} <way>. {a gives x b}
          | {B} <put> {y} {in q:place} <way>. {b goes q} {b puts y}
          | {B} <gave> {y} to {A}, who <put> it {in q:room}. {b gives y a} {a goes q} {a puts y}

rain = <rain_play> <rain_run> <rain_dry> <rain_over>
rain_play = <when> {a} was {in p:outside} with {an x:small} when it [began|started] to [rain|snow|hail|pour]. {a goes p} {a has x}
          | {a} was <outdoors> {in p:outside} with {an x:small} when [dark|black|heavy|grey|big|huge] clouds [came|rose|appeared]. {a goes p} {a has x}
rain_run = {A} <put> {x} <spot> and <walked> to {q:room}. {a puts x} {a goes q}
         | {A} <walked> to {q:room} <way>, but forgot {x}. {a puts x} {a goes q}
         | {A} <took> {x} and <walked> to {q:room} <way>. {a goes q}
rain_dry = {G} was there, <indoors>, and <gave> {him a} {an y:clothes}. {g goes q} {g has y} {g gives y a}
         | {B} was there, <indoors>, and <gave> {him a} {an y:clothes}. {b goes q} {b has y} {b gives y a}
         | "You are wet," <said> {B}, who <had> {an y:goods}. {b goes q} {b has y}
         | {B} <there_with> {an y:goods}. {b goes q} {b has y} <need>
rain_over = When the [sun came out|sky was blue|wind stopped|air was dry], {a} <walked> to {r:outside}. {a goes r} <sight>
          | They <drew> the [weather|wind|clouds|sky] and <ate> <food>.
          | Outside, <herd> and <someone> were [wet|cold|sad|busy|asleep] too.

cook = {p = kitchen} <cook_plan> {a goes p} {b goes p} <cook_need> <cook_fetch> <cook_eat>
cook_plan = <when> {A} and {B} wanted to cook <food>.
          | "Let us [cook|make|try|bake] <food>," <said> {A} to {B} <when>.
          | <when> {A} was as hungry as <someone>. "I can cook <food>," <said> {B}.
          | <when> {A} and {B} cooked <food> for {G}.
cook_need = They [needed|wanted|lacked|looked for] {an x:kit}, but it was {in q:place}. {x is q}
          | But {x:kit} was {in q:outside}, <spot>. {x is q}
          | "We need {x:kit} from {q:place}," <said> {B} <way>. {x is q}
cook_fetch = {A} <walked> there and <took> it, and {B} <found> {an y:kit}. {a goes q} {a takes x} {a goes p} {b has y}
           | {B} <walked> there and <took> it, and {A} <had> {an y:goods}. {b goes q} {b takes x} {b goes p} {a has y}
           | {A} <carried> it to the kitchen <way>, next to {an y:goods}. {a moves x p} {y is p}
cook_eat = They added <spice> and <fruit> and ate it with <someone>.
         | <someone> <came> with some <spice>.
         | It was as [hot|salty|sweet|soft|sour|hard|sharp|thick] as <someone>.

tidy = <tidy_why> <tidy_two> <tidy_last>
tidy_why = <when> {A} and {B} [tidied|cleaned|swept|dusted] the house like <someone>.
         | <when> {G} asked {A} and {B} to [tidy|clean|sweep|clear] up <way>.
         | <when> {G} fell over <scrap>. {A} and {B} [tidied|cleaned|swept] up.
tidy_two = {A} <put> {an x:goods} {in p:room} <way>. {x is p} {B} <put> {an y:goods} {in q:room}, <nook>. {y is q}
         | {an x:goods} went to {p:room} and {an y:goods} to {q:room}. {x is p} {y is q} {B} [helped|sang|watched|worked] <way>.
         | {A} <took> {an x:goods}. {a has x} {B} <put> {an y:goods} {in q:room} <way>. {y is q}
tidy_last = {A} <carried> {an z:goods} to {r:place} <way>. {z is r}
          | "Whose {bare z:goods} is this?" asked {A} <way>. "It is mine," <answered> {B}. {b has z}
          | They <found> <scrap> <nook> and {an z:goods} {in r:place}. {z is r}
          | <at_last> {A} <gave> {an z:goods} to {B} <way>. {b has z}

swap = <swap_meet> <swap_have> <swap_ask> <swap_after>
swap_meet = <when> {A} and {B} met {in p:outside} <spot>. {a goes p} {b goes p}
          | <when> {A} and {B} sat {in p:place} with <someone>. {a goes p} {b goes p}
          | <when> {a} <walked> to {p:outside} and <met> {B} <spot>. {a goes p} {b goes p}
swap_have = {A} <had> {an x:small} and {B} <had> {an y:small}. {a has x} {b has y}
          | {A} [liked|loved|admired|praised] {B}'s {bare y:small} more than {his a} {bare x:small}. {a has x} {b has y}
          | "I have {an y:small}," <said> {B}. {b has y} "And I have {an x:small}," <said> {A} <way>. {a has x}
swap_ask = "Shall we [swap|trade]?" asked {A} <way>. <swap_say>
         | {A} [wanted|hoped|asked|offered] to [swap|trade]. <swap_say>
swap_say = (2) "Yes," <answered> {B} <way>. {a gives x b} {b gives y a}
         | (1) "No," <answered> {B} <way>.
swap_after = They <drew> <herd> and <ate> <food>.
           | {C} <came> with <herd> and {an z:goods}. {c goes p} {c has z}
           | They <found> {an z:goods} from <someone>, but left it {in p}. {z is p}

picnic = <picnic_plan> <picnic_pack> <picnic_eat> <picnic_home>
picnic_plan = <when> {A} and {B} [had|made|wanted|planned] a picnic {in p:outside}, <spot>. {a goes p} {b goes p}
            | <when> {A} and {B} <walked> to {p:outside}, where {C} was <outdoors>. {a goes p} {b goes p} {c goes p}
            | "Let us go to {p:outside}," <said> {A} to {B} <when>. {a goes p} {b goes p}
picnic_pack = {A} <took> {an x:goods} and {B} <took> {an y:goods}. {a has x} {b has y}
            | {A} <had> {an x:goods}. {a has x} {B} had <meal>, <fruit> and {an y:goods}. {b has y}
picnic_eat = They <ate> <food> and drank <drink> with <someone>.
           | <herd> and <someone> came and <ate> the <meal> and the <fruit>.
           | <sight>
picnic_home = {A} <put> {x} {in p}, and {B} <carried> {y} to {q:room} <way>. {a puts x} {a goes home} {b goes q} {b puts y}
            | {B} [lost|forgot] {y} <spot>. {b puts y}
            | {A} <gave> {x} to {B} <way>. {a gives x b}

pet = <pet_calm> <pet_take> <pet_chase> <pet_end>
pet_calm = <when> {A} and {B} were {in p:place} with {an x:goods}. {a goes p} {b goes p} {x is p}
         | <when> {A} and {G} were {in p:outside}, <outdoors>. {a goes p} {g goes p} {an x:goods} lay <spot>. {x is p}
         | <when> {A} and {G} were {in p:room}, <indoors>. {a goes p} {g goes p} {an x:goods} lay <nook>. {x is p}
pet_take = {D} <took> {x} and <walked> to {q:outside} <way>. {d fetches x} {d goes q}
         | There came {d}, as <kind> as <someone>, and <carried> {x} to {q:outside}. {d fetches x} {d goes q}
pet_chase = "Stop," <said> {A} <way>.
          | {A} <walked> there too, past <herd> and <someone>. {a goes q}
          | {A} <met> <someone> <spot>.
pet_end = {d} dropped it <spot> and <took> {an z:goods}. {d puts x} {d has z}
        | {A} <gave> it <meal> and <fruit>, and got {x} back. {a goes q} {d gives x a} {A} <put> {an z:goods} {in q}. {z is q}
        | {A} [let it keep|gave it|lent it|made it keep] {x}, for there was {an z:goods} {in r:place}. {z is r}

mend = <mend_break> <mend_bring> <mend_do> <mend_end>
mend_break = <when> {a} [broke|bent|tore|burned] {an x:goods} {in p:place}. {a goes p} {a has x}
           | <when> {a} fell over <scrap> {in p:place} and broke {an x:goods}. {a goes p} {a has x}
mend_bring = {a} <carried> it to {G}, who was <indoors> {in q:room}. {a goes q} {g goes q}
           | {A}, as <sad> as <someone>, <walked> to {G} {in q:room}. {a goes q} {g goes q}
           | {B} <came> with {an y:goods}. {b has y} "[Go to|Ask|Try|Visit] {G} {in q:room}," {he b} <said> <way>. {a goes q} {g goes q}
mend_do = {G} mended it with [glue|tape|string|paint|wire|wax|cloth|wood] and [gave|handed|passed|brought] it back <way>. {a gives x g} {g gives x a}
        | "I need <number> minutes," <said> {G}, and kept {x}. {a gives x g}
        | {G} [washed|painted|fixed|cleaned] {x} and <put> it {in r:room}, <nook>. {a gives x g} {g goes r} {g puts x}
mend_end = {A} <gave> {G} {an z:goods} <way>. {a has z} {a hands z g}
         | <need> {G} <found> {an z:goods} for {A}. {g has z} {g hands z a}
         | "<thanks>," <said> {A}. {an z:goods} was {in q}, <nook>. {z is q}

bed = {p = bedroom} <bed_time> {a goes p} {g goes p} <bed_thing> <bed_tale>
bed_time = "Time for bed," <said> {G} to {A} one <day> evening.
         | Late one <weekday> {A} could not sleep. {G} <came> <way>.
         | It was <time>, but {A} was still <indoors>. "To bed with you," <said> {G}.
bed_thing = {A} <put> {an x:small} <nook>. {x is p} {G} <had> {an y:goods}. {g has y}
          | "I want my {bare x:small}," <said> {A}, and {G} <took> it from {q:place}. {x is q} {g fetches x} {g hands x a} {A} <put> {an y:goods} {in r:room}. {y is r}
          | {G} <put> {an x:goods} <nook>, and {A} held {an y:small} <way>. {x is p} {a has y}
          | {A} had left {an x:small} {in q:outside}. {x is q} "You can have {y:small}," <said> {G} <way>. {g has y} {g gives y a}
bed_tale = {G} [told|read|made up|wrote] a story about <herd> and <someone> <spot>.
         | {G} sang {an} <good> song about <someone> and <herd>.
         | They [counted|watched|drew|painted] <herd> and <herd>.

hide = <hide_start> <hide_hide> <hide_seek> <hide_end>
hide_start = <when> {A} and {B} [played|tried] a hiding game with <someone>.
           | "You hide, I seek," <said> {A} to {B} <when>.
           | <when> {B} hid two things for {A} to find.
hide_hide = {B} <put> {an x:goods} {in p:place} and {an y:goods} {in q:place}. {x is p} {y is q}
          | {an x:goods} was {in p:place}, {an y:goods} {in q:place}. {x is p} {y is q}
hide_seek = {A} <looked> {in r:place} first, but <found> only <scrap>.
          | {A} <looked> <nook> like <someone>.
          | {A} <walked> to {r:place} and <met> <someone> <way>.
          | {A} closed {his a} eyes and counted to <number> <way>.
hide_end = <at_last> {he a} <found> {x} {in p}, near {an z:goods}. {z is p}
         | <at_last> {he a} <took> {x}, and {B} <gave> {him a} {an z:goods}. {a fetches x} {b has z} {b hands z a}
         | {A} [never found|did not see|walked past|gave up on] {x}, so {B} <took> it <way>. {b fetches x}
)";

}  // namespace stories
