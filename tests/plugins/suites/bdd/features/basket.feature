Feature: A basket
    Background:
        Given an empty basket

    Scenario: One apple
        When I put 1 apple into it
        Then it holds 1 fruit

    @slow
    Scenario Outline: Several fruits
        When I put <count> <fruit> into it
        Then it holds <count> fruit

        Examples:
            | count | fruit |
            | 2     | apple |
            | 3     | pear  |

    Scenario: A wrong count
        When I put 1 apple into it
        Then it holds 2 fruit
